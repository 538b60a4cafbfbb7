import time
for number in range(1_000_000):
    print(f"tick {number}", flush=True)
    time.sleep(0.1)
