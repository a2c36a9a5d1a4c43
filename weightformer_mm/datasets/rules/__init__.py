"""What annotation files and label images must hold: asked by the checks and by the guards."""
