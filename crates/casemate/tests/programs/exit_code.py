import sys
print("about to fail", flush=True)
sys.exit(int(sys.argv[1]))
