"""Does ``stage=plan`` say what a run then takes? Plans and measured peaks, side by side."""
