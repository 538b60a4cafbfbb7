"""Writes numbered lines: argv[1] of them, of argv[2] bytes each, line feed included."""
import sys
lines, width = int(sys.argv[1]), int(sys.argv[2])
filler = "x" * (width - 12)
write = sys.stdout.write
for number in range(lines):
    write("%010d %s\n" % (number, filler))
sys.stdout.flush()
