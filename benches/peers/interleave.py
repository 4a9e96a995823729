#!/usr/bin/env python3
"""Times a vision transformer with `examples/time` and with the engines that users would pick instead, in one run: every
engine is a process of its own, and every round lets each of them run once, in turn, while the others sleep.

    pip install torch timm onnx onnxruntime openvino safetensors numpy
    python export.py l14_336 DIR
    cargo build --release --example time
    python interleave.py l14_336 DIR --rounds 10 --ours name=target/release/examples/time

With `--int8`, after `quantise.py`, everybody computes the linear layers with weights and activations in integers.

Several `--ours` compare builds of our own; `--isa` is passed to them. Batch 1, f32, weights at random. Printed for every
engine: wall time and processor time (from the system's account of its threads) in milliseconds, minimum and median over the
rounds, and their ratio to ours; then the rate of multiply-adds that our binary measured in the same run, and the fraction
of it that each engine reached. Absolute times drift by tens of percent on a shared machine; ratios of one run do not.
"""
import argparse
import glob
import os
import statistics
import subprocess
import sys
import time

from models import VIT

HERE = os.path.dirname(os.path.abspath(__file__))


class Engine:
    def __init__(self, label, command):
        self.label, self.wall, self.cpu, self.result = label, [], [], ""
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        stderr=subprocess.DEVNULL)
        self.until("ready")

    def until(self, word):
        for line in self.process.stdout:
            if line.startswith(word):
                return line
        sys.exit(f"{self.label} ended before it said {word}")

    def processor_ms(self):
        """Time on a processor of all threads so far."""
        total = 0
        for path in glob.glob(f"/proc/{self.process.pid}/task/*/schedstat"):
            with open(path) as file:
                total += int(file.read().split()[0])
        return total / 1e6

    def roof(self):
        """Lets a binary of ours measure the rate of multiply-adds."""
        self.process.stdin.write("roof\n")
        self.process.stdin.flush()
        self.until("roof")

    def step(self, counts):
        before = self.processor_ms()
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        wall = float(self.until("ms").split()[1])
        spent = self.processor_ms() - before
        self.sleeps()
        if counts:
            self.wall.append(wall)
            self.cpu.append(spent)

    def sleeps(self):
        """Waits until the engine's threads no longer spin, which would slow down the next one."""
        for _ in range(100):
            before = self.processor_ms()
            time.sleep(0.02)
            if self.processor_ms() - before < 0.5:
                return
        sys.exit(f"{self.label} does not come to rest")

    def end(self):
        self.process.stdin.close()
        self.result = "".join(line for line in self.process.stdout if line.startswith("result"))
        self.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=sorted(VIT))
    parser.add_argument("dir")
    parser.add_argument("--ours", action="append", required=True, metavar="LABEL=BINARY")
    parser.add_argument("--peers")
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1e9, help="start no round after so many")
    parser.add_argument("--isa")
    arguments = parser.parse_args()
    start = time.perf_counter()
    name, _ = VIT[arguments.model]
    threads = str(arguments.threads)
    peers_of = {False: "onnxruntime,openvino,torch", True: "onnxruntime-dynamic,onnxruntime-qdq,openvino-int8"}
    if arguments.peers is None:
        arguments.peers = peers_of[arguments.int8]
    extra = (["--isa", arguments.isa] if arguments.isa else []) + (["--int8"] if arguments.int8 else [])
    ours = []
    for given in arguments.ours:
        label, _, binary = given.rpartition("=")
        command = [binary, "vit", "--model", arguments.model, "--threads", threads, "--step",
                   "--weights", f"{arguments.dir}/{name}.safetensors"]
        ours.append(Engine(label or "triplet", command + extra))
    peers = [Engine(peer, [sys.executable, f"{HERE}/engine.py", peer, arguments.model, arguments.dir, threads])
             for peer in arguments.peers.split(",") if peer]
    engines = ours + peers
    for round_number in range(arguments.rounds + 1):
        if time.perf_counter() - start > arguments.seconds:
            break
        for engine in engines:
            engine.step(counts=round_number > 0)
        for engine in ours:
            engine.roof()
    for engine in engines:
        engine.end()

    print(f"{name}, {threads} threads, {len(ours[0].wall)} rounds")
    print(f"{'engine':14s} {'wall min':>9s} {'median':>9s} {'cpu min':>9s} {'median':>9s}   ours/engine: wall min, median, "
          "cpu min, of rounds")
    first = ours[0]
    for engine in engines:
        values = [min(engine.wall), statistics.median(engine.wall), min(engine.cpu), statistics.median(engine.cpu)]
        own = [min(first.wall), statistics.median(first.wall), min(first.cpu)]
        pairs = statistics.median(mine / theirs for mine, theirs in zip(first.wall, engine.wall))
        ratios = " ".join(f"{mine / theirs:9.3f}" for mine, theirs in zip(own, values))
        print(f"{engine.label:14s} " + " ".join(f"{value:9.1f}" for value in values) + f"   {ratios} {pairs:9.3f}")
    if peers:
        best = min(min(engine.wall) for engine in peers)
        best_median = min(statistics.median(engine.wall) for engine in peers)
        print(f"against the best peer: {min(first.wall) / best:.3f} by minima, "
              f"{statistics.median(first.wall) / best_median:.3f} by medians")
    words = dict(word.split("=") for word in first.result.split()[1:])
    if "roof_gflops" in words:
        operations = float(words["fraction_of_roof"]) * float(words["roof_gflops"]) * float(words["min_ms"])
        for engine in engines:
            fraction = operations / min(engine.wall) / float(words["roof_gflops"])
            print(f"fraction of the FMA rate ({words['roof_gflops']} GFLOP/s): {engine.label} {fraction:.3f}")
    for engine in ours:
        print(f"{engine.label}: {engine.result.strip()}")


if __name__ == "__main__":
    main()
