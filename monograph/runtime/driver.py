"""The native side of programs and threads, as LLVM IR text.

`run` performs a list of tasks in order, and `run_timed` also notes the time after each; `worker` is
where pool threads stay. They share a pool block of 8-byte words (offsets below, one cache line
apart). A task's units (a few chunks each) are dealt out to the threads in runs, the first run to
the caller: so a thread meets in its cache what it wrote in the task before. Who has finished its
own run takes units from the end of others'. A run is one word, (epoch, first unit, last + 1), from
which units are taken by compare-and-swap: while it succeeds, the task is not over, and so the
task's fields, read after the epoch, are that task's.

Who waits spins for a while, then sleeps: to be woken takes as long as a small program. Used by
pool.py.
"""

from __future__ import annotations

from . import system
from .system import word

# Word offsets in the pool block.
EPOCH, DONE, FIELDS, SLEEPING, STOP, SPIN, MUTEX, COND = 0, 8, 16, 24, 32, 40, 48, 64
OVER, WAITING = 72, 80  # the condition that a task's last chunk is done, and whether it is awaited
FN, BUFFERS, SIZES, CHUNKS, GRAIN = (FIELDS + i for i in range(5))
MEMBERS = 88  # how many threads there are, the caller included
RUNS = 96  # of each thread its run, the pool's address and its number, one cache line apart
PAUSES = 32  # between two looks at the clock; a power of two
MOST_UNITS = 4095  # a run's word has 12 bits for each end, above them the epoch


def pool_words(threads: int) -> int:
    return RUNS + 8 * threads


# Words of a task, and of a fix-up that puts the address of a call's slot into the pointer table.
TASK_WORDS = 5  # function, buffers, sizes, chunks, grain (0: all on the calling thread)
# A task without a function is a loop or branch: instead of sizes it has a control block.
TRIPS, TEST, BODY, OTHER, CONTROL_SLOTS, SLOT_COUNT, STARTS, UPDATES = range(8)
FINALS, FINAL_COUNT, MOVED, PROLOGUE = 8, 9, 10, 11
CONTROL_WORDS = 12
FIXUP_WORDS = 3  # address of the pointer, slot number, byte offset
REQUEST_WORDS = 8  # tasks, their number, fix-ups, their number, and these:
SLOTS, POOL, THREADS, STAMPS = 4, 5, 6, 7  # STAMPS: where `run_timed` leaves its times, else unused


FUNCTIONS = ("run", "run_timed", "worker", "stop", "changed")
FLUSHED = ("run", "run_timed", "worker")  # what has a variant in which subnormal numbers are zero


def _on_over(call: str) -> str:
    """The call with the condition that a task is over."""
    return call.replace("%cond", "%over")


def _work_ir() -> str:
    """work(pool, me, epoch): the units of that epoch's task that thread `me` can get."""
    fields = "\n".join(
        f"{word(f'%{name}_at', '%pool', index)}\n"
        f"  %{name} = load atomic {kind}, ptr %{name}_at acquire, align 8"
        for name, index, kind in (
            ("fn", FN, "ptr"), ("buffers", BUFFERS, "ptr"), ("sizes", SIZES, "ptr"),
            ("chunks", CHUNKS, "i64"), ("grain", GRAIN, "i64"), ("members", MEMBERS, "i64"),
        )
    )  # fmt: skip
    return f"""define internal void @work(ptr %pool, i64 %me, i64 %epoch) nounwind {{
entry:
{word("%done", "%pool", DONE)}
{word("%runs", "%pool", RUNS)}
{fields}
  br label %member
member:
  %who = phi i64 [ %me, %entry ], [ %neighbour, %next ]
  %visited = phi i64 [ 1, %entry ], [ %visits, %next ]
  %line = shl i64 %who, 3
{word("%run", "%runs", "%line")}
  %mine = icmp eq i64 %who, %me
  br label %look
look:
  %count = phi i64 [ 0, %member ], [ %count, %take ], [ %counted, %won ]
  %word = load atomic i64, ptr %run seq_cst, align 8
  %its = lshr i64 %word, 24
  %low = lshr i64 %word, 12
  %first = and i64 %low, {MOST_UNITS}
  %end = and i64 %word, {MOST_UNITS}
  %same = icmp eq i64 %its, %epoch
  %some = icmp ult i64 %first, %end
  %any = and i1 %same, %some
  br i1 %any, label %take, label %report
take:
  %last = sub i64 %end, 1
  %unit = select i1 %mine, i64 %first, i64 %last
  %step = select i1 %mine, i64 4096, i64 -1
  %left = add i64 %word, %step
  %pair = cmpxchg ptr %run, i64 %word, i64 %left seq_cst seq_cst
  %got = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %got, label %won, label %look
won:
  %start = mul i64 %unit, %grain
  %stop0 = add i64 %start, %grain
  %over = icmp ugt i64 %stop0, %chunks
  %stop = select i1 %over, i64 %chunks, i64 %stop0
  call void %fn(ptr %buffers, ptr %sizes, i64 %start, i64 %stop)
  %size = sub i64 %stop, %start
  %counted = add i64 %count, %size
  br label %look
report:
  %none = icmp eq i64 %count, 0
  br i1 %none, label %next, label %add
add:
  %before = atomicrmw add ptr %done, i64 %count seq_cst
  br label %next
next:
  %beyond = add i64 %who, 1
  %round = icmp uge i64 %beyond, %members
  %neighbour = select i1 %round, i64 0, i64 %beyond
  %visits = add i64 %visited, 1
  %others = icmp ult i64 %visited, %members
  br i1 %others, label %member, label %leave
leave:
  ret void
}}"""


def driver_ir(triple: str) -> str:
    """The module: FUNCTIONS, and control, which calls run for its bodies.

    Of FLUSHED also variants, as run_flushed, in which subnormal numbers are zero.
    """
    declare, pause = system.pause(triple)
    calls = system.sleeping(triple)
    declare_clock, clock = system.clock(triple)
    declare_flush, begin, end = system.flushing(triple)
    flushed = "\n".join(system.flushed(name, begin, end) for name in FLUSHED)
    fields = "\n".join(
        word(f"%{name}", "%pool", index)
        for name, index in (
            ("epoch", EPOCH), ("done", DONE), ("fn", FN), ("buffers", BUFFERS), ("sizes", SIZES),
            ("chunks", CHUNKS), ("grain", GRAIN), ("sleeping", SLEEPING), ("stop", STOP),
            ("spin", SPIN), ("mutex", MUTEX), ("cond", COND), ("over", OVER), ("waiting", WAITING),
            ("members_at", MEMBERS), ("runs", RUNS),
        )
    )  # fmt: skip
    return f"""target triple = "{triple}"
{calls["declare"]}
{declare}
{declare_clock}
{declare_flush}

{_work_ir()}

define void @worker(ptr %seat) nounwind {{
entry:
{word("%pool_at", "%seat", 1)}
  %pool = load ptr, ptr %pool_at
{word("%me_at", "%seat", 2)}
  %me = load i64, ptr %me_at
{fields}
  %times = alloca i64
  %limit = load i64, ptr %spin
  br label %look
look:
  %turns = phi i64 [ 0, %entry ], [ 0, %went ], [ %more, %idle ], [ %more, %on ], [ 0, %awake ]
  %seen = phi i64 [ 0, %entry ], [ %now, %went ], [ %seen, %idle ], [ %seen, %on ], [%seen, %awake]
  %since = phi i64 [ 0, %entry ], [ 0, %went ], [ %since, %idle ], [ %began, %on ], [ 0, %awake ]
  %now = load atomic i64, ptr %epoch seq_cst, align 8
  %old = icmp eq i64 %now, %seen
  br i1 %old, label %rest, label %task
task:
  call void @work(ptr %pool, i64 %me, i64 %now)
  %awaited = load atomic i64, ptr %waiting seq_cst, align 8
  %isawaited = icmp ne i64 %awaited, 0
  br i1 %isawaited, label %tell, label %went
tell:
  {calls["lock"]}
  {_on_over(calls["wake"])}
  {calls["unlock"]}
  br label %went
went:
  br label %look
rest:
  %ends = load atomic i64, ptr %stop seq_cst, align 8
  %ended = icmp ne i64 %ends, 0
  br i1 %ended, label %leave, label %idle
idle:
{_wait_awake(pause, "look")}
sleep:
  {calls["lock"]}
  %s0 = atomicrmw add ptr %sleeping, i64 1 seq_cst
  br label %check
check:
  %cnow = load atomic i64, ptr %epoch seq_cst, align 8
  %cany = icmp ne i64 %cnow, %seen
  %cends = load atomic i64, ptr %stop seq_cst, align 8
  %cended = icmp ne i64 %cends, 0
  %cup = or i1 %cany, %cended
  br i1 %cup, label %awake, label %wait
wait:
  {calls["wait"]}
  br label %check
awake:
  %s1 = atomicrmw sub ptr %sleeping, i64 1 seq_cst
  {calls["unlock"]}
  br label %look
leave:
  ret void
}}

define void @stop(ptr %pool) nounwind {{
entry:
{fields}
  store atomic i64 1, ptr %stop seq_cst, align 8
  {calls["lock"]}
  {calls["wake"]}
  {calls["unlock"]}
  ret void
}}

{clock}
{_run_ir("run", fields, pause, calls, timed=False)}
{_run_ir("run_timed", fields, pause, calls, timed=True)}
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

{_control_ir()}
{_CHANGED_IR}
{flushed}
"""


def _wait_awake(pause: str, again: str) -> str:
    """Pause, then go to label `again`, or to `sleep` if this wait has lasted for %limit."""
    return f"""  {pause}
  %more = add i64 %turns, 1
  %odd = and i64 %more, {PAUSES - 1}
  %unclear = icmp ne i64 %odd, 0
  br i1 %unclear, label %{again}, label %clock
clock:
  call void @stamp(ptr %times, i64 0)
  %time = load i64, ptr %times
  %isfirst = icmp eq i64 %more, {PAUSES}
  %began = select i1 %isfirst, i64 %time, i64 %since
  %waited = sub i64 %time, %began
  %tired = icmp sgt i64 %waited, %limit
  br i1 %tired, label %sleep, label %on
on:
  br label %{again}"""


def _run_ir(name: str, fields: str, pause: str, calls: dict[str, str], timed: bool) -> str:
    """The tasks in order. `timed`: the time before the first and after each goes to STAMPS."""
    begins = ends = ""
    if timed:
        begins = f"""{word("%stamps_at", "%request", STAMPS)}
  %stamps = load ptr, ptr %stamps_at
  call void @stamp(ptr %stamps, i64 0)"""
        ends = "  call void @stamp(ptr %stamps, i64 %tnext)"
    return f"""define void @{name}(ptr %request) nounwind {{
entry:
  %rp5 = getelementptr i64, ptr %request, i64 5
  %pool = load ptr, ptr %rp5
{fields}
  %tasks = load ptr, ptr %request
  %rp1 = getelementptr i64, ptr %request, i64 1
  %count = load i64, ptr %rp1
  %rp2 = getelementptr i64, ptr %request, i64 2
  %fixups = load ptr, ptr %rp2
  %rp3 = getelementptr i64, ptr %request, i64 3
  %fixup_count = load i64, ptr %rp3
  %rp4 = getelementptr i64, ptr %request, i64 4
  %slots = load ptr, ptr %rp4
  %rp6 = getelementptr i64, ptr %request, i64 6
  %threads = load i64, ptr %rp6
  %limit = load i64, ptr %spin
  %times = alloca i64
{begins}
  %alone = icmp ult i64 %threads, 2
  %anyfix = icmp sgt i64 %fixup_count, 0
  br i1 %anyfix, label %fix, label %begin
fix:
  %f = phi i64 [ 0, %entry ], [ %fnext, %fix ]
  %fbase = mul i64 %f, {FIXUP_WORDS}
  %fp = getelementptr i64, ptr %fixups, i64 %fbase
  %where = load ptr, ptr %fp
  %fp1 = getelementptr i64, ptr %fp, i64 1
  %slot = load i64, ptr %fp1
  %fp2 = getelementptr i64, ptr %fp, i64 2
  %shift = load i64, ptr %fp2
  %sp = getelementptr i64, ptr %slots, i64 %slot
  %address = load i64, ptr %sp
  %shifted = add i64 %address, %shift
  store i64 %shifted, ptr %where
  %fnext = add i64 %f, 1
  %fmore = icmp ult i64 %fnext, %fixup_count
  br i1 %fmore, label %fix, label %begin
begin:
  %anytask = icmp sgt i64 %count, 0
  br i1 %anytask, label %task, label %leave
task:
  %t = phi i64 [ 0, %begin ], [ %tnext, %finished ]
  %tbase = mul i64 %t, {TASK_WORDS}
  %tp = getelementptr i64, ptr %tasks, i64 %tbase
  %tfn = load ptr, ptr %tp
  %tp1 = getelementptr i64, ptr %tp, i64 1
  %tbuffers = load ptr, ptr %tp1
  %tp2 = getelementptr i64, ptr %tp, i64 2
  %tsizes = load ptr, ptr %tp2
  %tp3 = getelementptr i64, ptr %tp, i64 3
  %tchunks = load i64, ptr %tp3
  %tp4 = getelementptr i64, ptr %tp, i64 4
  %tgrain = load i64, ptr %tp4
  %isnull = icmp eq ptr %tfn, null
  br i1 %isnull, label %control, label %kernel
control:
  call void @control(ptr %pool, ptr %tbuffers, ptr %tsizes, i64 %threads)
  br label %finished
kernel:
  %empty = icmp slt i64 %tchunks, 1
  br i1 %empty, label %finished, label %some
some:
  %small = icmp ule i64 %tchunks, %tgrain
  %serial = icmp eq i64 %tgrain, 0
  %s1 = or i1 %small, %serial
  %s2 = or i1 %s1, %alone
  br i1 %s2, label %here, label %publish
here:
  call void %tfn(ptr %tbuffers, ptr %tsizes, i64 0, i64 %tchunks)
  br label %finished
publish:
  store atomic ptr %tfn, ptr %fn release, align 8
  store atomic ptr %tbuffers, ptr %buffers release, align 8
  store atomic ptr %tsizes, ptr %sizes release, align 8
  store atomic i64 %tchunks, ptr %chunks release, align 8
  store atomic i64 %tgrain, ptr %grain release, align 8
  store atomic i64 0, ptr %done release, align 8
  %was = load atomic i64, ptr %epoch seq_cst, align 8
  %now0 = add i64 %was, 1
  %now = and i64 %now0, 1099511627775
  %high = shl i64 %now, 24
  %up = add i64 %tchunks, %tgrain
  %up1 = sub i64 %up, 1
  %units = udiv i64 %up1, %tgrain
  %members = load i64, ptr %members_at
  br label %deal
deal:
  %who = phi i64 [ 0, %publish ], [ %follower, %deal ]
  %first = phi i64 [ 0, %publish ], [ %end, %deal ]
  %follower = add i64 %who, 1
  %part = mul i64 %units, %follower
  %end = udiv i64 %part, %members
  %shifted_first = shl i64 %first, 12
  %ends = or i64 %shifted_first, %end
  %dealt = or i64 %ends, %high
  %line = shl i64 %who, 3
{word("%its", "%runs", "%line")}
  store atomic i64 %dealt, ptr %its release, align 8
  %again = icmp ult i64 %follower, %members
  br i1 %again, label %deal, label %open
open:
  store atomic i64 %now, ptr %epoch seq_cst, align 8
  %asleep = load atomic i64, ptr %sleeping seq_cst, align 8
  %wake = icmp ne i64 %asleep, 0
  br i1 %wake, label %rouse, label %mine
rouse:
  {calls["lock"]}
  {calls["wake"]}
  {calls["unlock"]}
  br label %mine
mine:
  call void @work(ptr %pool, i64 0, i64 %now)
  br label %join
join:
  %turns = phi i64 [ 0, %mine ], [ %more, %patience ], [ %more, %on ]
  %since = phi i64 [ 0, %mine ], [ %since, %patience ], [ %began, %on ]
  %ready = load atomic i64, ptr %done seq_cst, align 8
  %all = icmp eq i64 %ready, %tchunks
  br i1 %all, label %finished, label %patience
patience:
{_wait_awake(pause, "join")}
sleep:
  {calls["lock"]}
  store atomic i64 1, ptr %waiting seq_cst, align 8
  br label %check
check:
  %sready = load atomic i64, ptr %done seq_cst, align 8
  %sall = icmp eq i64 %sready, %tchunks
  br i1 %sall, label %awake, label %wait
wait:
  {_on_over(calls["wait"])}
  br label %check
awake:
  store atomic i64 0, ptr %waiting seq_cst, align 8
  {calls["unlock"]}
  br label %finished
finished:
  %tnext = add i64 %t, 1
{ends}
  %tmore = icmp ult i64 %tnext, %count
  br i1 %tmore, label %task, label %leave
leave:
  ret void
}}"""


def _control_ir() -> str:
    """Loops and branches. The slots of a body's requests begin at addresses from the task's table
    of buffers; after each iteration each takes the address that another one had, plus a step."""
    fields = "\n".join(
        f"{word(f'%{name}_at', '%block', index)}\n  %{name} = load {kind}, ptr %{name}_at"
        for name, index, kind in (
            ("trips", TRIPS, "i64"), ("test", TEST, "i64"), ("body", BODY, "ptr"),
            ("other", OTHER, "ptr"), ("slots", CONTROL_SLOTS, "ptr"), ("count", SLOT_COUNT, "i64"),
            ("starts", STARTS, "ptr"), ("updates", UPDATES, "ptr"), ("finals", FINALS, "ptr"),
            ("final_count", FINAL_COUNT, "i64"), ("moved", MOVED, "ptr"),
            ("prologue", PROLOGUE, "ptr"),
        )
    )  # fmt: skip
    return f"""define internal void @control(ptr %pool, ptr %buffers, ptr %block, i64 %threads) {{
entry:
{fields}
  br label %start
start:
  %s = phi i64 [ 0, %entry ], [ %snext, %start ]
  %sp = getelementptr [2 x i64], ptr %starts, i64 %s
  %sbuffer = load i64, ptr %sp
  %sp1 = getelementptr i64, ptr %sp, i64 1
  %sshift = load i64, ptr %sp1
  %sfrom = getelementptr i64, ptr %buffers, i64 %sbuffer
  %sbase = load i64, ptr %sfrom
  %saddress = add i64 %sbase, %sshift
  %sto = getelementptr i64, ptr %slots, i64 %s
  store i64 %saddress, ptr %sto
  %snext = add i64 %s, 1
  %smore = icmp ult i64 %snext, %count
  br i1 %smore, label %start, label %kind
kind:
  %tested = icmp sge i64 %test, 0
  %branch = icmp ne ptr %other, null
{_lend("body")}
  %once = icmp ne ptr %prologue, null
  br i1 %once, label %before, label %ready
before:
{_lend("prologue")}
  call void @run(ptr %prologue)
  br label %ready
ready:
  br i1 %branch, label %choose, label %next
choose:
  %cslot = getelementptr ptr, ptr %slots, i64 %test
  %cwhere = load ptr, ptr %cslot
  %cbyte = load i8, ptr %cwhere
  %ctrue = icmp ne i8 %cbyte, 0
  %chosen = select i1 %ctrue, ptr %body, ptr %other
{_lend("chosen")}
  call void @run(ptr %chosen)
  ret void
next:
  %i = phi i64 [ 0, %ready ], [ %inext, %again ]
  %more = icmp ult i64 %i, %trips
  br i1 %more, label %ask, label %end
ask:
  br i1 %tested, label %look, label %go
look:
  %lslot = getelementptr ptr, ptr %slots, i64 %test
  %lwhere = load ptr, ptr %lslot
  %lbyte = load i8, ptr %lwhere
  %ltrue = icmp ne i8 %lbyte, 0
  br i1 %ltrue, label %go, label %end
go:
  call void @run(ptr %body)
  br label %move
move:
  %u = phi i64 [ 0, %go ], [ %unext, %move ]
  %up = getelementptr [2 x i64], ptr %updates, i64 %u
  %uslot = load i64, ptr %up
  %up1 = getelementptr i64, ptr %up, i64 1
  %ustep = load i64, ptr %up1
  %ufrom = getelementptr i64, ptr %slots, i64 %uslot
  %ubase = load i64, ptr %ufrom
  %uaddress = add i64 %ubase, %ustep
  %uto = getelementptr i64, ptr %moved, i64 %u
  store i64 %uaddress, ptr %uto
  %unext = add i64 %u, 1
  %umore = icmp ult i64 %unext, %count
  br i1 %umore, label %move, label %take
take:
  %bytes = mul i64 %count, 8
  call void @llvm.memcpy.p0.p0.i64(ptr %slots, ptr %moved, i64 %bytes, i1 false)
  br label %again
again:
  %inext = add i64 %i, 1
  br label %next
end:
  %any = icmp sgt i64 %final_count, 0
  br i1 %any, label %final, label %leave
final:
  %f = phi i64 [ 0, %end ], [ %fnext, %final_done ]
  %fp = getelementptr [3 x i64], ptr %finals, i64 %f
  %fslot = load i64, ptr %fp
  %fp1 = getelementptr i64, ptr %fp, i64 1
  %fbuffer = load i64, ptr %fp1
  %fp2 = getelementptr i64, ptr %fp, i64 2
  %fbytes = load i64, ptr %fp2
  %ffrom = getelementptr ptr, ptr %slots, i64 %fslot
  %fsource = load ptr, ptr %ffrom
  %fto = getelementptr ptr, ptr %buffers, i64 %fbuffer
  %ftarget = load ptr, ptr %fto
  %fsame = icmp eq ptr %fsource, %ftarget
  br i1 %fsame, label %final_done, label %final_copy
final_copy:
  call void @llvm.memcpy.p0.p0.i64(ptr %ftarget, ptr %fsource, i64 %fbytes, i1 false)
  br label %final_done
final_done:
  %fnext = add i64 %f, 1
  %fmore = icmp ult i64 %fnext, %final_count
  br i1 %fmore, label %final, label %leave
leave:
  ret void
}}"""


# changed(table): whether a word of memory is another. The table is how many there are, then of each
# its address and what stood there. Used by watch.py.
_CHANGED_IR = """define i64 @changed(ptr %table) nounwind {
entry:
  %count = load i64, ptr %table
  %first = getelementptr i64, ptr %table, i64 1
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %inext, %look ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %look, label %leave
look:
  %pair = getelementptr [2 x i64], ptr %first, i64 %i
  %place = load ptr, ptr %pair
  %stood_at = getelementptr i64, ptr %pair, i64 1
  %stood = load i64, ptr %stood_at
  %now = load i64, ptr %place
  %inext = add i64 %i, 1
  %same = icmp eq i64 %now, %stood
  br i1 %same, label %next, label %leave
leave:
  %found = zext i1 %more to i64
  ret i64 %found
}"""


def _lend(request: str) -> str:
    """Give a body's request the pool and the threads of the program around it."""
    return f"""  %{request}_pool = getelementptr i64, ptr %{request}, i64 {POOL}
  store ptr %pool, ptr %{request}_pool
  %{request}_threads = getelementptr i64, ptr %{request}, i64 {THREADS}
  store i64 %threads, ptr %{request}_threads"""
