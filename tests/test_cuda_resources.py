"""No kernel spills registers or uses local memory: what ptxas says, for sm_75 and sm_90.

Oracle: ptxas, on the PTX that the emulated tests execute.
"""

from __future__ import annotations

import pytest

from cuda_emulation import resources
from cuda_emulation.build import ROOT, MissingToolError
from cuda_emulation.fixtures import ARCHITECTURES, build_or_skip, skip

SOURCES = ROOT / "csrc" / "src" / "cuda"
# 100 numbers in local memory, read at a place known only when it runs.
LOCAL_MEMORY = """
.version 7.0
.target sm_75
.address_size 64
.visible .entry broken(.param .u64 out, .param .u32 at) {
  .local .align 4 .b8 numbers[400];
  .reg .b32 %r<3>;
  .reg .b64 %rd<4>;
  ld.param.u32 %r1, [at];
  mul.wide.u32 %rd1, %r1, 4;
  mov.u64 %rd2, numbers;
  add.s64 %rd2, %rd2, %rd1;
  st.local.u32 [%rd2], %r1;
  ld.local.u32 %r2, [numbers];
  ld.param.u64 %rd3, [out];
  st.global.u32 [%rd3], %r2;
  ret;
}
"""


def measure(text: str, architecture: int) -> list[resources.Use]:
    try:
        return resources.measure(text, architecture)
    except MissingToolError as missing:
        return skip(str(missing))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_spills_and_no_local_memory(architecture: int) -> None:
    built = build_or_skip("_core")
    modules = [
        measure(texts[architecture], architecture) for texts in resources.modules(built.extension)
    ]
    sources = [file for file in SOURCES.glob("*.cu") if "__global__" in file.read_text()]
    assert len([uses for uses in modules if uses]) >= len(sources) > 0  # none was missed
    uses = [use for module in modules for use in module]
    assert [use for use in uses if use.stack or use.spill_stores or use.spill_loads] == []
    assert all(0 < use.registers <= 255 for use in uses)


def test_local_memory_is_noticed() -> None:
    build_or_skip("cudart_emulation")  # skips where nvcc is missing
    [use] = measure(LOCAL_MEMORY, 75)
    assert (use.kernel, use.stack) == ("broken", 400)
