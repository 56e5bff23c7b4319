"""What stands behind `sharplab ...`: one module per command."""
