"""What a run leaves on the disk: its folder, record, metrics, checkpoints and lock."""
