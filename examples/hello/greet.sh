#!/bin/sh
# What the first container runs: it tells what it sees of the world.
echo "Hello from container $(hostname), process $$ of its own."
echo "It was started as: $0 $*"
cat /opt/built.txt
