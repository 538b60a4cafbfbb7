"""Prints numbered lines slowly enough to be read while it runs, then ends with the return code that it was given."""
import sys
import time

lines, pause, code = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
for number in range(lines):
    print(f"line {number}", flush=True)
    time.sleep(pause)
sys.exit(code)
