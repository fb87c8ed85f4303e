"""What the driver asks of processor and system, as LLVM IR text: pauses, the clock, sleep and
wake-up, subnormal numbers. Used by driver.py.
"""

from __future__ import annotations

import os
import time

# Nanoseconds of a tick of the driver's clock.
TICK_NS = time.get_clock_info("perf_counter").resolution * 1e9 if os.name == "nt" else 1


def pause(triple: str) -> tuple[str, str]:
    if triple.startswith("x86_64"):
        return "declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"
    if triple.startswith(("aarch64", "arm64")):
        return "declare void @llvm.aarch64.hint(i32)", "call void @llvm.aarch64.hint(i32 1)"
    return "", ""


def flushing(triple: str) -> tuple[str, str, str]:
    """(declarations, statements that make subnormal numbers zero, statements that undo it).

    Empty where a processor has no such mode.
    """
    if triple.startswith("x86_64"):
        declare = "declare void @llvm.x86.sse.stmxcsr(ptr)\ndeclare void @llvm.x86.sse.ldmxcsr(ptr)"
        # Results (bit 15) and operands (bit 6) are flushed.
        begin = """  %before = alloca i32
  %during = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %before)
  %word = load i32, ptr %before
  %flushed = or i32 %word, 32832
  store i32 %flushed, ptr %during
  call void @llvm.x86.sse.ldmxcsr(ptr %during)"""
        return declare, begin, "  call void @llvm.x86.sse.ldmxcsr(ptr %before)"
    if triple.startswith(("aarch64", "arm64")):
        declare = "declare i64 @llvm.aarch64.get.fpcr()\ndeclare void @llvm.aarch64.set.fpcr(i64)"
        begin = """  %before = call i64 @llvm.aarch64.get.fpcr()
  %during = or i64 %before, 16777216
  call void @llvm.aarch64.set.fpcr(i64 %during)"""
        return declare, begin, "  call void @llvm.aarch64.set.fpcr(i64 %before)"
    return "", "", ""


def can_flush(triple: str) -> bool:
    """Whether subnormal numbers can be made zero."""
    return bool(flushing(triple)[0])


def flushed(name: str, begin: str, end: str) -> str:
    """`name` with subnormal numbers made zero, in this thread and while it runs."""
    return f"""define void @{name}_flushed(ptr %block) nounwind {{
{begin}
  call void @{name}(ptr %block)
{end}
  ret void
}}"""


def sleeping(triple: str) -> dict[str, str]:
    """The system's mutex and condition variable: declarations, and the calls by name."""
    if "windows" in triple:
        return {
            "declare": "declare void @AcquireSRWLockExclusive(ptr)\n"
            "declare void @ReleaseSRWLockExclusive(ptr)\n"
            "declare i32 @SleepConditionVariableSRW(ptr, ptr, i32, i32)\n"
            "declare void @WakeAllConditionVariable(ptr)",
            "lock": "call void @AcquireSRWLockExclusive(ptr %mutex)",
            "unlock": "call void @ReleaseSRWLockExclusive(ptr %mutex)",
            "wait": "call i32 @SleepConditionVariableSRW(ptr %cond, ptr %mutex, i32 -1, i32 0)",
            "wake": "call void @WakeAllConditionVariable(ptr %cond)",
        }
    return {
        "declare": "declare i32 @pthread_mutex_lock(ptr)\n"
        "declare i32 @pthread_mutex_unlock(ptr)\n"
        "declare i32 @pthread_cond_wait(ptr, ptr)\n"
        "declare i32 @pthread_cond_broadcast(ptr)",
        "lock": "call i32 @pthread_mutex_lock(ptr %mutex)",
        "unlock": "call i32 @pthread_mutex_unlock(ptr %mutex)",
        "wait": "call i32 @pthread_cond_wait(ptr %cond, ptr %mutex)",
        "wake": "call i32 @pthread_cond_broadcast(ptr %cond)",
    }


def clock(triple: str) -> tuple[str, str]:
    """(declarations, function `stamp`) of the clock behind Python's time.perf_counter.

    stamp(times, index) stores it at times[index], in nanoseconds (on Windows in ticks).
    """
    head = "define internal void @stamp(ptr %times, i64 %index) nounwind {"
    if "windows" in triple:
        declare = "declare i32 @QueryPerformanceCounter(ptr)"
        body = "  call i32 @QueryPerformanceCounter(ptr %to)"
    else:
        clock = 8 if "apple" in triple or "darwin" in triple else 1  # uptime, monotonic
        declare = "declare i32 @clock_gettime(i32, ptr)"
        body = f"""  %now = alloca [2 x i64]
  call i32 @clock_gettime(i32 {clock}, ptr %now)
  %seconds = load i64, ptr %now
  %rest_at = getelementptr i64, ptr %now, i64 1
  %rest = load i64, ptr %rest_at
  %whole = mul i64 %seconds, 1000000000
  %all = add i64 %whole, %rest
  store i64 %all, ptr %to"""
    return (
        declare,
        f"""{head}
{word("%to", "%times", "%index")}
{body}
  ret void
}}""",
    )


def word(name: str, base: str, index: int | str) -> str:
    return f"  {name} = getelementptr i64, ptr {base}, i64 {index}"
