"""The machine that run_avx512 boots: everything that bochs reads, written into one folder.

A boot ROM (avx512_boot.S), one memory image with the Linux kernel, its PVH start info and an
initial RAM disk, and the configuration. Nothing here needs a BIOS, a boot loader or a disk.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
KERNEL_PACKAGE = "linux-image-cloud-amd64"
EM_X86_64, PT_LOAD, PT_INTERP, PT_NOTE = 62, 1, 3, 4  # ELF
XEN_ELFNOTE_PHYS32_ENTRY = 18
LZ4_LONG, LZ4_LONGER = 15, 255  # a length field that is continued, a byte that is continued
BLOCK = 0x20000  # bochs allocates guest memory in blocks of this size, see avx512_boot.S

# Everything that a test machine does not need is left out: the boot shrinks from about 1300 million
# instructions to about 350 million. XSAVES and XSAVEC are hidden because bochs 2.7 reports a wrong
# size for their format, on which the kernel gives up all of XSAVE (and with it AVX-512).
KERNEL_COMMAND_LINE = " ".join(
    [
        "console=ttyS0,115200 quiet loglevel=4 panic=-1 acpi=off pci=off mitigations=off",
        "clearcpuid=xsaves,xsavec lpj=1000000 tsc=nowatchdog no_timer_check init_on_alloc=0",
        "audit=0 apparmor=0 lsm=capability transparent_hugepage=never cryptomgr.notests",
        "initcall_blacklist=trace_eval_init,load_system_certificate_list,btf_vmlinux_init,"
        "init_evm,init_ima,init_trace_printk_function_export,crypto_algapi_init",
    ]
)

BOCHS_CONFIG = """\
memory: guest={memory}, host={memory}
romimage: file=boot.rom
cpu: model=corei7_skylake_x, count=1, ips=500000000
optramimage1: file=ram.img, address={begin:#x}
display_library: term
boot: floppy
pci: enabled=0
speaker: enabled=0
clock: sync=none, time0=1700000000
com1: enabled=1, mode=file, dev=serial.out
parport1: enabled=1, file=parallel.out
log: bochs.log
panic: action=fatal
error: action=report
info: action=report
debug: action=ignore
"""


class SetupError(Exception):
    """The emulated machine cannot be built or started here; the message says what is needed."""


@dataclass(frozen=True)
class Command:
    """One executable with its arguments and the environment entries added to the common ones."""

    executable: Path
    arguments: list[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class Machine:
    """What to boot and to run: files maps guest paths to host paths, kernel None is a download."""

    build: Path
    commands: list[Command]
    files: dict[str, Path]
    kernel: Path | None
    memory_mib: int


@dataclass(frozen=True)
class Kernel:
    """A kernel laid out as in memory: the bytes, their physical address and the PVH entry point."""

    image: bytes
    begin: int
    entry: int


def note(text: str) -> None:
    """Say something about the run itself, on stderr: stdout belongs to the commands."""
    print(f"[run_avx512] {text}", file=sys.stderr, flush=True)


def require_tools(kernel_known: bool) -> None:
    """Fail with the names of the Debian packages whose programs are missing."""
    wanted = {"bochs-bin": "bochs", "g++": "g++", "ld": "binutils"}
    if not kernel_known:
        wanted |= {"apt-get": "apt", "apt-cache": "apt", "dpkg-deb": "dpkg"}
    missing = {package for tool, package in wanted.items() if shutil.which(tool) is None}
    if "bochs" not in missing and not list(Path("/usr/lib").glob("*/bochs/plugins/*term_gui.so")):
        missing.add("bochs-term")
    if missing:
        names = " ".join(sorted(missing))
        raise SetupError(f"needs Debian packages: apt-get install --no-install-recommends {names}")


def require_static(path: Path) -> None:
    """Refuse what the guest could not execute: it has no shared library and no interpreter."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SetupError(f"cannot read the executable {path}: {error.strerror}") from error
    if data[:5] != b"\x7fELF\x02" or struct.unpack_from("<H", data, 18)[0] != EM_X86_64:
        raise SetupError(f"{path} is not an x86-64 ELF executable")
    if any(kind == PT_INTERP for kind, *_ in program_headers(data)):
        raise SetupError(f"{path} is dynamically linked: link it with -static")


def program_headers(elf: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Type, file offset, physical address and file size of every segment of a 64-bit ELF file."""
    table, count = struct.unpack_from("<Q", elf, 32)[0], struct.unpack_from("<H", elf, 56)[0]
    for i in range(count):
        kind, _, offset, _, physical, size = struct.unpack_from("<IIQQQQ", elf, table + 56 * i)
        yield kind, offset, physical, size


def call(arguments: list[str], cwd: Path) -> str:
    """Run a helper program; its error output becomes the message when it fails."""
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SetupError(f"{shlex.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


# --- kernel ---------------------------------------------------------------------------------------


def download_kernel(folder: Path) -> Path:
    """Fetch the cloud kernel's package with apt-get, without installing it; return its vmlinuz."""
    depends = call(["apt-cache", "depends", "--important", KERNEL_PACKAGE], folder)
    found = re.search(r"Depends: (linux-image-\S+-cloud-amd64)", depends)
    if found is None:
        raise SetupError(f"{KERNEL_PACKAGE} is unknown to apt: run apt-get update, or use --kernel")
    note(f"downloading {found[1]}")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        call(["apt-get", "download", found[1]], Path(scratch))
        package = next(Path(scratch).glob("*.deb"))
        call(["dpkg-deb", "-x", package.name, "tree"], Path(scratch))
        kernel = next(Path(scratch).glob("tree/boot/vmlinuz-*"))
        return Path(shutil.copy(kernel, folder / kernel.name))


def decompress_lz4_block(source: bytes) -> bytearray:
    """Expand one LZ4 block (LZ4 Block Format Description); the standard library has no LZ4."""
    out = bytearray()
    at, end = 0, len(source)

    def extended(length: int, at: int) -> tuple[int, int]:
        if length == LZ4_LONG:
            while True:
                length += source[at]
                at += 1
                if source[at - 1] != LZ4_LONGER:
                    break
        return length, at

    while at < end:
        token = source[at]
        literals, at = extended(token >> 4, at + 1)
        out += source[at : at + literals]
        at += literals
        if at >= end:
            break
        distance = source[at] | source[at + 1] << 8
        length, at = extended(token & 15, at + 2)
        length += 4
        pattern = out[-distance:][:length]
        out += (pattern * (length // len(pattern) + 1))[:length]
    return out


def unpack_kernel(vmlinuz: bytes) -> bytes:
    """The ELF file inside a bzImage (Linux, x86 boot protocol 2.08 and up: payload_offset)."""
    if vmlinuz[0x202:0x206] != b"HdrS":
        raise SetupError("the kernel is not a bzImage")
    offset, length = struct.unpack_from("<II", vmlinuz, 0x248)
    start = ((vmlinuz[0x1F1] or 4) + 1) * 512 + offset
    payload = vmlinuz[start : start + length]
    if payload[:4] != b"\x02\x21\x4c\x18":
        raise SetupError("the kernel is not compressed with LZ4 as Debian's cloud kernel is")
    elf, at = bytearray(), 4
    while at + 4 < len(payload):  # the last four bytes are the expanded size
        size = struct.unpack_from("<I", payload, at)[0]
        elf += decompress_lz4_block(payload[at + 4 : at + 4 + size])
        at += 4 + size
    return bytes(elf)


def lay_out_kernel(elf: bytes) -> Kernel:
    """Place the segments at their physical addresses and find the PVH entry in the notes."""
    segments: list[tuple[int, bytes]] = []
    entry = None
    for kind, offset, physical, size in program_headers(elf):
        content = elf[offset : offset + size]
        if kind == PT_LOAD:
            segments.append((physical, content))
        at = 0
        while kind == PT_NOTE and at < size:
            name_size, value_size, number = struct.unpack_from("<III", content, at)
            value = at + 12 + (name_size + 3 & ~3)
            if content[at + 12 : at + 15] == b"Xen" and number == XEN_ELFNOTE_PHYS32_ENTRY:
                entry = int.from_bytes(content[value : value + value_size], "little")
            at = value + (value_size + 3 & ~3)
    if entry is None:
        raise SetupError("the kernel has no PVH entry point (CONFIG_PVH)")
    begin = min(physical for physical, _ in segments)
    image = bytearray(max(physical + len(content) for physical, content in segments) - begin)
    for physical, content in segments:
        image[physical - begin : physical - begin + len(content)] = content
    return Kernel(bytes(image), begin, entry)


def find_kernel(build: Path, given: Path | None) -> Kernel:
    """The kernel given, else the one kept in the build folder, else a fresh download."""
    path = given or next(iter(sorted(build.glob("vmlinuz-*"))), None) or download_kernel(build)
    packed = path.read_bytes()
    kept = build / f"vmlinux-{hashlib.sha256(packed).hexdigest()[:16]}"
    if not kept.exists():
        partial = kept.with_suffix(".partial")
        partial.write_bytes(unpack_kernel(packed))
        partial.replace(kept)
    return lay_out_kernel(kept.read_bytes())


# --- what the machine starts with -----------------------------------------------------------------


def compile_init(build: Path) -> Path:
    """Compile the guest's process 1, once per content of its source."""
    source = HERE / "avx512_init.cpp"
    program = build / f"init-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"
    if not program.exists():
        partial = program.with_suffix(".partial")
        options = ["-std=c++20", "-O2", "-static", "-march=x86-64"]
        call(["g++", *options, "-o", str(partial), str(source)], build)
        partial.replace(program)
    return program


def assemble_rom(run: Path, kernel: Kernel, start_info: int, end: int) -> None:
    """Assemble avx512_boot.S into run/boot.rom."""
    symbols = {
        "KERNEL_ENTRY": kernel.entry,
        "START_INFO": start_info,
        "IMAGE_BEGIN": kernel.begin,
        "IMAGE_END": end,
    }
    defines = [f"-D{name}={value}" for name, value in symbols.items()]
    call(["g++", "-c", *defines, "-o", "boot.o", str(HERE / "avx512_boot.S")], run)
    call(["ld", "-Ttext=0", "--oformat", "binary", "-o", "boot.rom", "boot.o"], run)


def cpio_archive(entries: dict[str, tuple[int, bytes]]) -> bytes:
    """An initial RAM disk, path -> (mode, content); Linux verifies cpio's "crc" format."""
    names: dict[str, tuple[int, bytes]] = {}
    for path, entry in entries.items():
        for parent in reversed(Path(path).parents[:-1]):
            names.setdefault(str(parent), (0o40755, b""))
        names[path] = entry
    names["TRAILER!!!"] = (0, b"")
    out = bytearray()
    for i, (name, (mode, content)) in enumerate(names.items()):
        major, minor = (5, 1) if name == "dev/console" else (0, 0)
        encoded = name.encode() + b"\0"
        numbers = [i + 1, mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(encoded)]
        numbers.append(sum(content) & 0xFFFFFFFF)
        for piece in (b"070702" + b"".join(b"%08x" % n for n in numbers) + encoded, content):
            out += piece
            out += bytes(-len(out) % 4)
    return bytes(out)


def memory_image(kernel: Kernel, disk: bytes, memory_mib: int) -> tuple[bytes, int]:
    """Kernel, start info and RAM disk in one piece, and the physical address of the start info."""
    start_info = kernel.begin + len(kernel.image) + 0xFFF & ~0xFFF
    modules, memory_map, text = start_info + 0x100, start_info + 0x200, start_info + 0x400
    disk_at, top = start_info + 0x1000, memory_mib << 20
    page = bytearray(0x1000)
    struct.pack_into(  # struct hvm_start_info, version 1 (Xen, xen/include/public/arch-x86/hvm)
        "<IIIIQQQQII", page, 0, 0x336EC578, 1, 0, 1, modules, text, 0, memory_map, 2, 0
    )
    struct.pack_into("<QQQQ", page, 0x100, disk_at, len(disk), 0, 0)
    struct.pack_into("<QQIIQQII", page, 0x200, 0, 0xA0000, 1, 0, 1 << 20, top - (1 << 20), 1, 0)
    page[0x400 : 0x400 + len(KERNEL_COMMAND_LINE)] = KERNEL_COMMAND_LINE.encode()
    image = kernel.image + bytes(start_info - kernel.begin - len(kernel.image)) + page + disk
    image += bytes(-len(image) % BLOCK)
    if kernel.begin + len(image) + 2 * len(disk) > top - (64 << 20):
        raise SetupError(f"the executables do not fit: raise --memory (now {memory_mib} MiB)")
    return image, start_info


def prepare(machine: Machine, run: Path, token: str) -> None:
    """Write everything that bochs reads into the folder run; token marks the guest's reports."""
    entries: dict[str, tuple[int, bytes]] = {"dev/console": (0o20600, b"")}
    manifest = [token, str(len(machine.commands))]
    for i, command in enumerate(machine.commands):
        guest = f"commands/{i}/{command.executable.name}"
        entries[guest] = (0o100755, command.executable.read_bytes())
        settings = [f"{name}={value}" for name, value in command.environment.items()]
        arguments = ["/" + guest, *command.arguments]
        manifest += [str(len(settings)), *settings, str(len(arguments)), *arguments]
    for guest, host in machine.files.items():
        entries[guest.lstrip("/")] = (0o100644, host.read_bytes())
    entries["manifest"] = (0o100644, b"".join(part.encode() + b"\0" for part in manifest))
    with (machine.build / "lock").open("w") as lock:  # ctest may start several machines at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        kernel = find_kernel(machine.build, machine.kernel)
        entries["init"] = (0o100755, compile_init(machine.build).read_bytes())
    image, start_info = memory_image(kernel, cpio_archive(entries), machine.memory_mib)
    assemble_rom(run, kernel, start_info, kernel.begin + len(image))
    (run / "ram.img").write_bytes(image)
    config = BOCHS_CONFIG.format(memory=machine.memory_mib, begin=kernel.begin)
    (run / "bochsrc").write_text(config)
    (run / "debugger.rc").write_text("continue\n")
