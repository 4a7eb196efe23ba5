#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes the completions of the shells from what `finack --help` and `finack COMMAND --help` say.

usage: generate.py FINACK BASH_FILE ZSH_FILE FISH_FILE

A line of help that begins with blanks and "--name" (or "-n, --name") is an option; a word in
capitals behind the name is its value, "[=WORD]" one that may be left out; the rest, after two
blanks, is what it does. If that is a list of words, such as "one, two (default) or three", these
are its values. FILE is a file, PID a process. The first usage line says what else is wanted:
HOST:PORT, or COMMAND.
"""

import pathlib
import re
import subprocess
import sys
from dataclasses import dataclass

OPTION = re.compile(
    r"^ {2,6}(?:-(?P<short>\w), )?--(?P<name>[a-z-]+)"
    r"(?P<value> [A-Z][A-Z:,.]*|\[=[A-Z]+\])?(?: {2,}(?P<does>\S.*))?$"
)
COMMAND = re.compile(r"^  ([a-z]+) +(\S.*)$")
WORD = r"[a-z][a-z-]*(?: \(default\))?"
CHOICE = re.compile(rf"{WORD}(?:, {WORD})*(?:,? or {WORD}|, {WORD})")
BOTH = "  -h, --help, --version"


@dataclass
class Option:
    name: str
    short: str
    value: str  # "" for none
    optional: bool  # the value, after "="
    does: str
    choices: list


@dataclass
class Command:
    name: str
    does: str
    options: list
    wants: str  # "HOST:PORT", "COMMAND" or ""


def say_help(finack, *command):
    run = subprocess.run([finack, *command, "--help"], check=True, capture_output=True, text=True)
    return run.stdout.splitlines()


def parse_option(match):
    value, does = match["value"] or "", match["does"] or ""
    optional = value.startswith("[")
    choices = re.findall(r"[a-z-]+", re.sub(r" \(default\)| or ", " ", does))
    return Option(match["name"], match["short"] or "", value.strip(" [=]").split(",")[0], optional,
                  does, choices if value and CHOICE.fullmatch(does) else [])


def parse_options(lines):
    options = [parse_option(match) for match in map(OPTION.match, lines) if match]
    if any(line.strip() == BOTH.strip() for line in lines):
        options += [Option("help", "h", "", False, "print a summary", []),
                    Option("version", "", "", False, "print the release", [])]
    return options


def parse_command(finack, name, does):
    lines = say_help(finack, name)
    wants = re.search(r"HOST:PORT|COMMAND\b", lines[0])
    return Command(name, does, parse_options(lines), wants[0] if wants else "")


def parse(finack):
    matches = filter(None, map(COMMAND.match, say_help(finack)))
    return [parse_command(finack, *match.groups()) for match in matches]


def quote(text):
    return "'" + text.replace("'", "'\\''") + "'"


# ---- bash ----

BASH = """\
# bash completion for finack. SPDX-License-Identifier: MIT

_finack_offer() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current")
}

# What the option $2 of the command $1 takes, into `value`; fails if that is nothing.
_finack_takes() {
    case "$1 $2" in
@VALUES@    *) return 1 ;;
    esac
}

# Where the COMMAND that we are to run begins, into `place`; fails if it does not yet.
_finack_find() {
    local i
    for ((i = 2; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --) place=$((i + 1)) && return ;;
        -*) _finack_takes "${COMP_WORDS[1]}" "${COMP_WORDS[i]}" && ((i++)) ;;
        *) place=$i && return ;;
        esac
    done
    return 1
}

_finack_run() {
    if declare -F _command_offset >/dev/null; then
        _command_offset "$1"
    elif ((COMP_CWORD == $1)); then
        mapfile -t COMPREPLY < <(compgen -c -- "$current")
    else
        compopt -o default
    fi
}

_finack() {
    local current=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD - 1]} value place
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        _finack_offer @COMMANDS@
        return
    fi
    case ${COMP_WORDS[1]} in
    @RUNNERS@) _finack_find && _finack_run "$place" && return ;;
    esac
    # readline takes --name=value for three words
    if [[ $current == = ]]; then
        current=
    elif [[ $option == = ]]; then
        option=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    if _finack_takes "${COMP_WORDS[1]}" "$option"; then
        case $value in
        FILE) compopt -o default ;;
        PID) _finack_offer "$(cd /proc && echo [0-9]*)" ;;
        *) _finack_offer "$value" ;;
        esac
        return
    fi
    case ${COMP_WORDS[1]} in
@OPTIONS@    esac
}

complete -F _finack finack
"""


def bash_value(option):
    known = option.value if option.value in ("FILE", "PID") else ""
    return "value=" + quote(" ".join(option.choices) or known)


def bash_words(command):
    return [f"--{option.name}" for option in command.options] + [
        f"-{option.short}" for option in command.options if option.short
    ]


def bash_options(command):
    words = quote(" ".join(bash_words(command)))
    lines = [f"    {command.name})"]
    other = {"HOST:PORT": "compgen -A hostname", "COMMAND": "compgen -c"}.get(command.wants)
    if other:
        lines += ["        if [[ $current != -* ]]; then",
                  f'            mapfile -t COMPREPLY < <({other} -- "$current")',
                  "            return",
                  "        fi"]
        if command.wants == "HOST:PORT":
            lines[1] = "        if [[ $current != -* && $current ]]; then"
    return "\n".join([*lines, f"        _finack_offer {words} ;;\n"])


def bash(commands):
    values = ""
    for command in commands:
        for option in command.options:
            if option.value and not option.optional:
                names = [f"--{option.name}"] + [f"-{option.short}"] * bool(option.short)
                pattern = " | ".join(quote(f"{command.name} {name}") for name in names)
                values += f"    {pattern}) {bash_value(option)} ;;\n"
    runners = [command.name for command in commands if command.wants == "COMMAND"]
    names = " ".join(command.name for command in commands)
    text = BASH.replace("@VALUES@", values)
    text = text.replace("@RUNNERS@", " | ".join(runners) or "''")
    text = text.replace("@COMMANDS@", quote(f"{names} --help --version"))
    return text.replace("@OPTIONS@", "".join(map(bash_options, commands)))


# ---- zsh ----

ZSH = """\
#compdef finack
# SPDX-License-Identifier: MIT

# The COMMAND that we are to run, without the "--" before it.
_finack_run() {
    [[ $words[1] == -- ]] && shift words && ((CURRENT--))
    _normal
}

_finack() {
    local curcontext=$curcontext state line
    local -a finack_commands=( # "commands" is the shell's own
@COMMANDS@    )
    _arguments -C \\
        '(- *)--help[list the commands]' \\
        '(- *)--version[print the release]' \\
        '1:command:->command' \\
        '*::argument:->argument'
    case $state in
    command)
        _describe -t commands command finack_commands ;;
    argument)
        case $line[1] in
@CASES@        esac ;;
    esac
}

_finack "$@"
"""


def zsh_text(text):
    return re.sub(r"([\[\]:\\])", r"\\\1", text)


def zsh_action(option):
    if option.choices:
        return f"({' '.join(option.choices)})"
    return {"FILE": "_files", "PID": "_pids"}.get(option.value, "")


def zsh_option(option):
    value = ""
    if option.value:
        value = f"{':' * (1 + option.optional)}{option.value.lower()}:{zsh_action(option)}"
    mark = "=" + "-" * option.optional if option.value else ""
    names = [f"--{option.name}{mark}"]
    if option.short:
        names.append(f"-{option.short}{'+' if option.value else ''}")
    alone = "(- *)" if option.name in ("help", "version") else ""
    if option.short:
        alone = f"(--{option.name} -{option.short})"
    return [quote(f"{alone}{name}[{zsh_text(option.does)}]{value}") for name in names]


def zsh_case(command):
    specs = [spec for option in command.options for spec in zsh_option(option)]
    if command.wants == "HOST:PORT":
        specs.append(quote("1:host and port:_hosts"))
    if command.wants == "COMMAND":
        specs += [quote("(-)1:command:_command_names -e"), quote("*::arguments:_finack_run")]
    lines = " \\\n                ".join(["_arguments -S :", *specs])
    return f"        {command.name})\n            {lines} ;;\n"


def zsh(commands):
    names = "".join(f"        {quote(f'{c.name}:{zsh_text(c.does)}')}\n" for c in commands)
    return ZSH.replace("@COMMANDS@", names).replace("@CASES@", "".join(map(zsh_case, commands)))


# ---- fish ----

def fish_quote(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def fish_option(command, option):
    line = f"complete -c finack -n '__fish_seen_subcommand_from {command.name}' -l {option.name}"
    if option.short:
        line += f" -s {option.short}"
    if option.choices and not option.optional:
        line += f" -x -a {fish_quote(' '.join(option.choices))}"
    elif option.value == "FILE":
        line += " -r -F"
    elif option.value == "PID":
        line += " -x -a '(__fish_complete_pids)'"
    elif option.value and not option.optional:
        line += " -x"
    return f"{line} -d {fish_quote(option.does)}"


def fish(commands):
    lines = ["# fish completion for finack. SPDX-License-Identifier: MIT", "",
             "complete -c finack -f",
             "complete -c finack -n __fish_use_subcommand -l help -d 'list the commands'",
             "complete -c finack -n __fish_use_subcommand -l version -d 'print the release'"]
    for command in commands:
        lines += ["", f"complete -c finack -n __fish_use_subcommand -a {command.name}"
                      f" -d {fish_quote(command.does)}"]
        lines += [fish_option(command, option) for option in command.options]
        other = {"HOST:PORT": "(__fish_print_hostnames)",
                 "COMMAND": "(__fish_complete_subcommand --fcs-skip=2)"}.get(command.wants)
        if other:
            lines.append(f"complete -c finack -n '__fish_seen_subcommand_from {command.name}'"
                         f" -x -a {fish_quote(other)}")
    return "\n".join(lines) + "\n"


def main():
    finack, *outputs = sys.argv[1:]
    commands = parse(finack)
    for make, path in zip((bash, zsh, fish), outputs):
        pathlib.Path(path).write_text(make(commands), encoding="utf-8")


if __name__ == "__main__":
    main()
