# shellcheck shell=bash
# The checks and the run of pytest. A run that is interrupted stops its tests, says so, and fails.

FAILED_CHECKS=""
INTERRUPTED=""  # the name of the signal that ended the run early
PYTEST_PID=""
TOTAL="no test was run"
RUN_IN=()         # words in front of pytest's command, such as those that run it in another network

check() { # check COMMAND...: a program of the virtual environment or the system; notes its failure and goes on
    say "check: $*"
    PATH="$VENV/bin:$PATH" "$@" || FAILED_CHECKS="$FAILED_CHECKS $1"
}

# interrupt SIGNAL: the trap's handler. Pytest gets Ctrl-C, so that fixtures clean up; before
# pytest runs there is nothing to clean up but what the EXIT trap does.
interrupt() {
    INTERRUPTED=$1
    if [ -z "$PYTEST_PID" ]; then exit "$(exit_code_of "$1")"; fi
    kill -INT "$PYTEST_PID" 2>/dev/null || true
}

exit_code_of() { # as shells have it: 128 and the signal's number
    echo $((128 + $(kill -l "$1")))
}

watch_signals() {
    local signal
    for signal in INT TERM HUP; do
        # shellcheck disable=SC2064  # the name is meant to be put in now
        trap "interrupt $signal" "$signal"
    done
}

# run_tests ARGUMENTS: prints what pytest prints, keeps its last line in TOTAL, returns its exit code.
run_tests() {
    local log=$STATE/pytest.$$ colour=no code=0 out tee_pid
    [ ! -t 1 ] || colour=yes
    say "test: pytest $*"
    exec {out}> >(tee "$log")
    tee_pid=$!
    # Side by side: most tests wait for containers most of the time. A module's tests stay together.
    # In the background, for a signal interrupts "wait" and not a command in the foreground.
    "${RUN_IN[@]}" "$VENV/bin/pytest" --color="$colour" --numprocesses=2 --dist=loadscope --no-loadscope-reorder "$@" >&"$out" 2>&1 &
    PYTEST_PID=$!
    exec {out}>&-
    while :; do
        code=0
        wait "$PYTEST_PID" || code=$?
        if pid_gone "$PYTEST_PID"; then break; fi
    done
    PYTEST_PID=""
    wait "$tee_pid" || true
    TOTAL=$(tail -n 1 "$log" | sed -e 's/\x1b\[[0-9;]*m//g' -e 's/^=* *//; s/ *=*$//')
    rm -f "$log"
    # Pytest's own word for an interruption, whoever sent the signal.
    if [ "$code" -eq 2 ] && [ -z "$INTERRUPTED" ]; then INTERRUPTED=INT; fi
    return "$code"
}

# report_coverage: the total, and the modules of which the least is covered. It judges nothing. Counted is what the tests
# of tests/unit and tests/component reach (see tests/conftest.py), without the programs that they start.
report_coverage() {
    [ -f "$COVERAGE_FILE" ] || return 0
    say "coverage: lines and branches that tests/unit and tests/component reach; the ten modules with the least"
    "$VENV/bin/coverage" report --skip-empty --sort=cover |
        awk 'NR == 1 || /^TOTAL/ { print; next } /^[^-]/ && shown < 10 { print; shown++ }' || true
    rm -f "$COVERAGE_FILE"
}

# report_run CODE: the last line of the run; exits with the run's code.
report_run() {
    local code=$1
    if [ -n "$INTERRUPTED" ]; then
        say "test: INTERRUPTED by SIG$INTERRUPTED, so that not all tests were run ($TOTAL)"
        exit "$(exit_code_of "$INTERRUPTED")"
    fi
    if [ -n "$FAILED_CHECKS" ]; then
        say "test: FAILED checks:$FAILED_CHECKS"
        [ "$code" -ne 0 ] || code=1
    fi
    say "test: $TOTAL; checks: ${FAILED_CHECKS:-all passed}"
    exit "$code"
}
