#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What bash, zsh and fish offer after a TAB is what the command says of itself, and accepts.

usage: test_completion.py FINACK FOLDER        (of the completions; prints TAP)
"""

import os
import re
import subprocess
import sys
import tempfile

import tap
from on_pty import Terminal, environment, plain
from tap import test

FINACK = os.path.abspath(sys.argv[1])
FOLDER = os.path.abspath(sys.argv[2])
OPTION = re.compile(r"--[a-z][a-z-]*")
END = "end-of-the-list"
# The values that a shell must know: those that the C code takes.
VALUES = {
    "probe --courtesy": {"abort", "prompt", "orderly", "full"},
    "probe --proof": {"released", "unreferenced", "finished", "gone"},
    "probe --scope": {"connection", "descriptor"},
    "ps --proto": {"tcp", "udp", "unix"},
}


def say_help(*command):
    return subprocess.run([FINACK, *command, "--help"], check=True, capture_output=True, text=True,
                          timeout=60).stdout


def commands():
    return set(re.findall(r"^  ([a-z]+) ", say_help(), re.MULTILINE))


def options(command):
    """Those that stand where the help defines one, in all of its words."""
    heads = re.findall(r"^ +(-.*?)(?:   *|$)(?! )", say_help(command), re.MULTILINE)
    return {name for head in heads for name in OPTION.findall(head)}


# ---- shells on a terminal ----

def bash(line, folder):
    """readline lists what it would complete; typed as a person does."""
    setup = ("PS1='> '; bind 'set completion-query-items 0'; bind 'set page-completions off'; "
             f"bind 'set show-all-if-ambiguous on'; PATH={os.path.dirname(FINACK)}:$PATH; "
             f"source {FOLDER}/finack; echo rea''dy\n")
    return type_tab(["bash", "--norc", "--noprofile", "-i"], setup, line, folder)


# zsh lists nothing while there is more to read, so its matches are taken where they are added.
ZSH_SPY = """
compadd() {
    if [[ ! " $* " == *" -"[OAD]" "* ]]; then
        local -a spied
        builtin compadd -O spied "$@"
        (($#spied)) && print -rl -u $spy -- "" $spied ""
    fi
    builtin compadd "$@"
}
"""


def zsh(line, folder):
    with open(os.path.join(folder, ".spy"), "w", encoding="ascii") as file:
        file.write(ZSH_SPY)
    setup = ("PS1='> '; setopt no_beep; exec {spy}>&1; "
             f"fpath=({FOLDER} $fpath); PATH={os.path.dirname(FINACK)}:$PATH; source ./.spy; "
             "autoload -Uz compinit; compinit -D -u; bindkey '^I' list-choices; print rea''dy\n")
    return type_tab(["zsh", "-f", "-i"], setup, line, folder)


def type_tab(shell, setup, line, folder):
    """What the shell prints after the line that was typed."""
    end = f"{END[:3]}''{END[3:]}"  # what is typed differs from what it prints
    with Terminal(columns=200) as terminal:
        process = subprocess.Popen(shell, stdin=terminal.slave, stdout=terminal.slave,
                                   stderr=terminal.slave, start_new_session=True, cwd=folder,
                                   env=environment(ZDOTDIR=folder, HOME=folder))
        terminal.close_slave()
        try:
            terminal.write(setup)
            # The prompt comes once the shell reads keys; before that the kernel edits the line.
            before = terminal.read_until(lambda text: re.search("ready\\s[^>]*> ", text))
            terminal.write(f"{line}\t\x15echo {end}\n")
            text = terminal.read_until(lambda text: END in text)
        finally:
            process.kill()
            process.wait()
    assert "not found" not in before, before
    return plain(text).replace("\r", "").split(f"echo {end}")[0]


def fish(line, folder):
    script = (f"set -p PATH {os.path.dirname(FINACK)}; source {FOLDER}/finack.fish; "
              f"complete -C '{line}'")
    run = subprocess.run(["fish", "--no-config", "-c", script], check=True, capture_output=True,
                         text=True, timeout=60, cwd=folder,
                         env=environment(HOME=folder, XDG_DATA_HOME=folder, XDG_CONFIG_HOME=folder))
    return "\n".join(offer.split("\t")[0] for offer in run.stdout.splitlines())


SHELLS = (bash, zsh, fish)


def offered(shell, line):
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(os.path.join(folder, "a-folder"))
        with open(os.path.join(folder, "a-file"), "w", encoding="ascii"):
            pass
        return shell(line, folder)


def words(text, line):
    """Without the line itself, which shells print again."""
    return set(re.split(r"\s+", text.replace(line, " ")))


# ---- tests ----

@test
def the_commands_are_offered():
    for shell in SHELLS:
        found = words(offered(shell, "finack "), "finack ")
        assert commands() <= found, (shell.__name__, found)


@test
def the_options_are_those_of_the_help():
    for shell in SHELLS:
        for command in sorted(commands()):
            line = f"finack {command} --"
            found = set(OPTION.findall(offered(shell, line).replace(line + "\n", "\n")))
            assert found == options(command), (shell.__name__, command,
                                               found ^ options(command))


@test
def the_options_are_accepted():
    for command in commands():
        for name in sorted(options(command) - {"--help", "--version"}):
            takes_value = re.search(rf"{name} [A-Z]", say_help(command))
            args = [name] if takes_value else [name, "--bogus"]
            run = subprocess.run([FINACK, command, *args], capture_output=True, text=True,
                                 timeout=60, check=False)
            words = [name, "needs a value"] if takes_value else ["unknown", "'--bogus'"]
            assert run.returncode == 2, (args, run)
            assert all(word in run.stderr for word in words), (args, run)


@test
def values_are_offered_and_accepted():
    for option, values in VALUES.items():
        command, name = option.split()
        if command not in commands():
            continue
        for shell in SHELLS:
            for line in (f"finack {option} ", f"finack {option}="):
                text = offered(shell, line).replace(line, " ")
                found = set(re.findall(r"[a-z-]+", text))
                assert values <= found, (shell.__name__, line, text)
                assert set(OPTION.findall(text)) <= {name}, (shell.__name__, line, text)
        run = subprocess.run([FINACK, command, name, "bogus"], capture_output=True, text=True,
                             timeout=60, check=False)
        assert all(value in run.stderr for value in values), run


@test
def a_file_is_offered_where_one_is_wanted():
    for shell in SHELLS:
        found = offered(shell, "finack probe --html a-")
        assert "a-file" in found and "a-folder" in found, (shell.__name__, found)
        found = offered(shell, "finack probe --count ")
        assert "a-file" not in found, (shell.__name__, found)


@test
def a_command_is_offered_where_one_is_wanted():
    if "trace" in commands():
        for shell in SHELLS:
            for line in ("finack trace -- tru", "finack trace --json tru"):
                found = words(offered(shell, line), line)
                assert {"true", "truncate"} <= found, (shell.__name__, line, found)
        for shell in (zsh, fish):  # bash needs its package of completions for that
            line = "finack trace -- finack probe --"
            assert "--courtesy" in offered(shell, line), shell.__name__


if __name__ == "__main__":
    sys.exit(tap.main())
