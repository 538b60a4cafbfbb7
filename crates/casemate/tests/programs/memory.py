"""Uses more memory than the driver's container has."""
hoard = []
while True:
    hoard.append(bytearray(b"x" * (16 * 1024 * 1024)))
