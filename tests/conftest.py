"""What tests measured, in one table at the end of a run."""


def pytest_terminal_summary(terminalreporter):
    """Print the latencies that tests left as a property, worst first of each bound."""
    rows = {
        tuple(value)
        for report in terminalreporter.stats.get("passed", [])
        for name, value in getattr(report, "user_properties", [])
        if name == "latency"
    }
    if rows:
        terminalreporter.section("latencies")
    for event, cycles, bound, clock in sorted(rows):
        terminalreporter.write_line(f"{event}: {cycles:g} of at most {bound:g} cycles of {clock}")
