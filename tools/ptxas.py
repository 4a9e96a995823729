"""Assembles every kernel of cuda/ with pinned ptxas for the architectures of its tier, and compares with cuda/golden.txt.

    python3 tools/ptxas.py TOOLS           compares; TOOLS is a folder that keeps the assemblers between runs
    python3 tools/ptxas.py TOOLS --write   writes cuda/golden.txt anew

The assemblers come from PyPI: nvidia-cuda-nvcc-cu12 knows sm_53 to sm_120, nvidia-cuda-nvcc sm_75 on. Spilled registers, a stack
frame, a block that a device cannot hold, a warning or a difference from the golden numbers is a failure. Exit 3: the assemblers could not be had.
"""

import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
OLD, NEW = "12.9.86", "13.2.86"
PACKAGES = [f"nvidia-cuda-nvcc-cu12=={OLD}", f"nvidia-cuda-nvcc=={NEW}", f"nvidia-cuda-nvdisasm=={NEW}"]
PTXAS = {OLD: "nvidia/cuda_nvcc/bin/ptxas", NEW: "nvidia/cu13/bin/ptxas"}
NVDISASM = "nvidia/cu13/bin/nvdisasm"
# By the ending of a kernel's name: assembler and architecture.
TIERS = {
    "": [(OLD, a) for a in ("sm_53", "sm_62", "sm_72", "sm_87", "sm_120")]
    + [(NEW, a) for a in ("sm_75", "sm_80", "sm_89", "sm_90", "sm_110", "sm_121")],
    "_sm75": [(OLD, a) for a in ("sm_75", "sm_87", "sm_120")]
    + [(NEW, a) for a in ("sm_75", "sm_80", "sm_89", "sm_110", "sm_121")],
    "_sm80": [(OLD, a) for a in ("sm_80", "sm_87", "sm_120")]
    + [(NEW, a) for a in ("sm_80", "sm_86", "sm_89", "sm_90", "sm_110", "sm_121")],
    "_sm90a": [(OLD, "sm_90a"), (NEW, "sm_90a")],
}
# The architectures whose instructions are counted, by the new assembler; those of sm_75 for its own tier.
COUNTED = ("sm_80", "sm_90", "sm_90a")
# Instructions worth a number: products, tensor cores, memory by width, barriers, spills.
MIX = re.compile(r"^(FFMA|HMMA|IMMA|HGMMA|UBLKCP|SYNCS|MUFU|SHFL|BAR|LDSM|LDGSTS|LDL|STL|LDG|STG|LDS|STS)(\.\S+)?$")


def expand(path):
    lines = []
    for line in path.read_text().splitlines():
        found = re.fullmatch(r"\s*// include (\w+)\s*", line)
        lines += expand(path.with_name(found[1] + ".inc")) if found else [line]
    return lines


def fetch(tools):
    if all((tools / name).exists() for name in [*PTXAS.values(), NVDISASM]):
        return
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--disable-pip-version-check", "--target"]
    done = subprocess.run([*command, str(tools), *PACKAGES], capture_output=True, text=True)
    if done.returncode != 0:
        print("skipped: ptxas (" + (done.stderr.strip().splitlines() or ["pip failed"])[-1] + ")")
        sys.exit(3)


def mix(tools, cubin):
    text = subprocess.run([tools / NVDISASM, "-c", cubin], capture_output=True, text=True, check=True).stdout
    counts, total = {}, 0
    for line in text.splitlines():
        found = re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?\S+\s+)?([A-Z][\w.]*)", line)
        if not found:
            continue
        total += 1
        known = MIX.match(found[1])
        if known:
            wide = ".128" if ".128" in found[1] else ""
            counts[known[1] + wide] = counts.get(known[1] + wide, 0) + 1
    return " ".join([f"all {total}"] + [f"{name} {count}" for name, count in sorted(counts.items())])


def assemble(tools, scratch, kernel, version, arch):
    """One line of golden.txt, or an error."""
    cubin = scratch / f"{kernel}-{version}-{arch}.cubin"
    command = [tools / PTXAS[version], "-v", f"-arch={arch}", "-o", cubin, scratch / f"{kernel}.ptx"]
    done = subprocess.run(command, capture_output=True, text=True)
    said = done.stdout + done.stderr
    where = f"{kernel} {arch} {version}"
    if done.returncode != 0:
        return where, f"{where}: {said.strip()}"
    told = [line for line in said.splitlines() if "warning" in line.lower() and "deprecated" not in line]
    if told:
        return where, f"{where}: {told[0]}"
    spills = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said)
    if spills is None or any(int(number) for number in spills.groups()):
        return where, f"{where}: stack or spills: {spills and spills[0]}"
    registers = re.search(r"Used (\d+) registers", said)[1]
    # A block's registers come in eights a thread; boards of the first Jetsons give a block 32768.
    threads = re.search(r"\.(?:reqntid|maxntid) (\d+), 1, 1", (scratch / f"{kernel}.ptx").read_text())[1]
    taken = (int(registers) + 7) // 8 * 8 * int(threads)
    if taken > (32768 if arch in ("sm_53", "sm_62") else 65536):
        return where, f"{where}: a block takes {taken} registers"
    shared = re.search(r"(\d+) bytes smem", said)
    line = f"{where} registers {registers} shared {shared[1] if shared else 0}"
    if version == NEW and (arch in COUNTED or kernel.endswith("_sm75") and arch == "sm_75"):
        line += " " + mix(tools, cubin)
        if re.search(r"\b(LDL|STL) ", line):
            return where, f"{where}: local memory: {line}"
    return line, None


def main():
    tools = pathlib.Path(sys.argv[1])
    fetch(tools)
    golden = ROOT / "cuda/golden.txt"
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        work = []
        for path in sorted((ROOT / "cuda").glob("*.ptx")):
            (scratch / path.name).write_text("\n".join(expand(path)) + "\n")
            tier = next(ending for ending in ("_sm75", "_sm80", "_sm90a", "") if path.stem.endswith(ending))
            work += [(path.stem, version, arch) for version, arch in TIERS[tier]]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            lines = list(pool.map(lambda item: assemble(tools, scratch, *item), work))
    failures = [error for _, error in lines if error]
    text = "".join(line + "\n" for line, _ in lines)
    if failures:
        sys.exit("\n".join(failures))
    if "--write" in sys.argv:
        golden.write_text(text)
    elif golden.read_text() != text:
        old, new = set(golden.read_text().splitlines()), set(text.splitlines())
        changed = [f"- {line}" for line in sorted(old - new)] + [f"+ {line}" for line in sorted(new - old)]
        sys.exit("\n".join(changed) + "\ncuda/golden.txt differs; tools/ptxas.py TOOLS --write makes it anew")
    kernels = len({kernel for kernel, _, _ in work})
    print(f"assembled {kernels} kernels, {len(work)} times, without spills; the golden numbers hold")


main()
