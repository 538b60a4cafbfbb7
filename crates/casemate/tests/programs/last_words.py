"""Once it is told to, writes some more than a pipe holds, and its last words, and ends at once."""
import os
import time

while not os.path.exists("/tmp/go"):
    time.sleep(0.05)
text = "a line of many %s\n" % ("." * 85) * 3000 + "the last words\n"
os.write(1, text.encode())
os._exit(3)
