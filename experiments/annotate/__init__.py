"""What the desk promises, measured: no answer lost, none twice, soon enough."""
