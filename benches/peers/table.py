"""From times to the table: medians, ratios, Markdown. Nothing here knows of models."""

import statistics

# What of dubcore's a contender's arithmetic is compared with.
LIKE = {"f32": "f32", "bf16": "bf16", "f16": "bf16", "int8": "int8", "q8_0": "int8"}
OURS = "dubcore"

HEAD = "| | | median | dubcore is faster by | lowest to highest | threads | loaded in | peak memory | the same as dubcore's f32 |\n|---|---|---|---|---|---|---|---|---|\n"


def row(task, contender, arithmetic, times, **more):
    """A row of the table: the median of the times of the turns, in seconds."""
    spread = {"seconds": statistics.median(times), "low": min(times), "high": max(times), "turns": len(times)}
    return {"task": task, "contender": contender, "arithmetic": arithmetic, **spread, **more}


def with_ratios(rows):
    """The rows, each of a peer with its time by dubcore's of the same arithmetic; none where dubcore has no such row."""
    ours = {(r["task"], r["arithmetic"]): r["seconds"] for r in rows if r["contender"] == OURS}
    against = lambda r: None if r["contender"] == OURS else ours.get((r["task"], LIKE[r["arithmetic"]]))
    return [{**r, "ratio": r["seconds"] / against(r) if against(r) else None} for r in rows]


def fastest(rows):
    """For each task and each arithmetic of dubcore's: the fastest peer of that arithmetic, as (row of ours, its row)."""
    out = []
    for ours in (r for r in rows if r["contender"] == OURS):
        of_kind = [
            r for r in rows if r["task"] == ours["task"] and r["contender"] != OURS and LIKE[r["arithmetic"]] == ours["arithmetic"]
        ]
        if of_kind:
            out.append((ours, min(of_kind, key=lambda r: r["seconds"])))
    return out


def time(seconds):
    """In the unit that leaves three digits or so."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    for least, digits in ((0.1, 0), (0.01, 1), (0.001, 2)):
        if seconds >= least:
            return f"{seconds * 1e3:.{digits}f} ms"
    return f"{seconds * 1e6:.0f} µs"


def markdown(rows, notes=()):
    """The table, the fastest peers below it, and what else is to be said."""
    lines, last = [], None
    for r in with_ratios(rows):
        task = r["task"] if r["task"] != last else ""
        last = r["task"]
        ratio = "" if r["ratio"] is None else f"{r['ratio']:.2f}"
        lines.append(
            f"| {task} | {r['contender']} {r['arithmetic']} | {time(r['seconds'])} | {ratio} | {time(r['low'])} to {time(r['high'])} "
            f"| {r['threads']} | {time(r['load'])} | {r['peak'] / 1e6:.0f} MB | {r['same']} |\n"
        )
    ahead = [
        f"- {ours['task']}, {ours['arithmetic']}: {peer['seconds'] / ours['seconds']:.2f} times as fast as the fastest peer, "
        f"{peer['contender']} {peer['arithmetic']}\n"
        for ours, peer in fastest(rows)
    ]
    return HEAD + "".join(lines) + "\n" + "".join(ahead) + "".join(f"- {note}\n" for note in notes)


def same_tokens(ours, theirs):
    """How many tokens of lists are equal, place by place, of how many."""
    equal = sum(a == b for x, y in zip(ours, theirs) for a, b in zip(x, y))
    return f"{equal} of {sum(map(len, ours))} tokens"


def replaced(text, begin, end, new):
    """A document with something else between two lines."""
    before, found, rest = text.partition(begin)
    _, also, after = rest.partition(end)
    if not (found and also):
        raise ValueError(f"the document has no lines {begin!r} and {end!r}")
    return f"{before}{begin}\n{new.strip()}\n\n{end}{after}"
