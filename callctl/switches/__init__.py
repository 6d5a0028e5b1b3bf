"""Switches behind one port: nothing above `base` knows which kind a call is on."""
