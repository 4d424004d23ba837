#!/usr/bin/env python3
"""gen_stubs.py CUDA_INCLUDE nullcuda.c -> stubs.c + stubs.ld: a stub for every driver API name that
nullcuda.c does not define, per-thread-stream aliases, and the name table for cuGetProcAddress."""

import pathlib
import re
import sys

inc, src = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
names, renames, ptsz = set(), {}, set()
for h in ("cuda.h", "cudaProfiler.h", "cudaGL.h", "cudaEGL.h", "cudaVDPAU.h"):
    p = inc / h
    if not p.exists():
        continue
    t = p.read_text(errors="replace")
    for m in re.finditer(r"^\s*#\s*define\s+(cu[A-Z]\w*)\s+(__CUDA_API_PT[DS][SZ])?\(?(cu[A-Z]\w*)\)?\s*$", t, re.M):
        if m[3].endswith(("_ptsz", "_ptds")):
            continue
        renames.setdefault(m[1], m[3])
        names.add(m[3])
        if m[2]:
            ptsz.add((m[3], "_ptds" if m[2].endswith("DS") else "_ptsz"))
    names |= set(re.findall(r"CUDAAPI\s+(cu[A-Z]\w*)\s*\(", t))
names = {n for n in names if not n.endswith(("_ptsz", "_ptds"))}
defined, undef = set(), set()
ctext = src.read_text()
for line in ctext.splitlines():
    m = re.match(r"#undef (cu\w+)", line)
    if m:
        undef.add(m[1])
    m = re.match(r"(?:FN|COPYA?)\s*\(?(cu\w+)\s*[(,]", line)
    if m:
        defined.add(m[1] if m[1] in undef else renames.get(m[1], m[1]))
for s in ("D8", "D16", "D32", "D2D8", "D2D16", "D2D32"):
    defined.add(f"cuMemset{s}_v2")
    defined.add(f"cuMemset{s}Async")
names |= defined
out = [
    "#include <stdatomic.h>",
    "int nullgpu_unimplemented(const char *, atomic_int *);",
    '#define STUB(n) __attribute__((visibility("default"))) int n(void) '
    "{ static atomic_int s = -1; return nullgpu_unimplemented(#n, &s); }",
]
for n in sorted(names):
    out.append(f"extern int {n}();" if n in defined else f"STUB({n})")
out.append("struct nullgpu_sym { const char *name; void *fn; };")
out.append("extern const struct nullgpu_sym nullgpu_syms[]; extern const int nullgpu_nsyms;")
out.append("const struct nullgpu_sym nullgpu_syms[] = {")
out += [f'  {{"{n}", (void *){n}}},' for n in sorted(names)]
out.append("};\nconst int nullgpu_nsyms = sizeof nullgpu_syms / sizeof *nullgpu_syms;")
pathlib.Path("stubs.c").write_text("\n".join(out) + "\n")
pathlib.Path("stubs.ld").write_text("\n".join(f"--defsym={n}{s}={n}" for n, s in sorted(ptsz) if n in names) + "\n")
print(f"{len(names)} names, {len(defined)} implemented, {len(names - defined)} stubs, {len(ptsz)} per-thread aliases")
