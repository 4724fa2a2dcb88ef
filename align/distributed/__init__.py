"""The only folder that knows ranks, devices and launching."""
