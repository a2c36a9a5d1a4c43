"""Pictures of what a model is given and what it predicts."""
