"""Fills the driver's local storage, and dies of it."""
import os
chunk = os.urandom(1024 * 1024) * 16
with open("/scratch/filler", "wb") as file:
    while True:
        file.write(chunk)
