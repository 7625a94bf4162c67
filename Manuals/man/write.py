#!/usr/bin/env python3
"""Writes a tool's man page from its own help: write.py TOOL DATE, the page goes to standard output.

What the help does not say, because it is the same for all three tools, stands here: exit status, environment.
"""

import json
import re
import subprocess
import sys

TOOLS = ["step3-convert", "step3-inspect", "step3-verify"]
EXIT_STATUS = [
    ("0", "Done, and every check held."),
    ("1", "A check ran and did not hold, or a comparison found a difference."),
    ("64", "The command line makes no sense."),
    ("65", "The input is malformed, or of a kind that is not supported."),
    ("66", "The input is not there or may not be read."),
    ("70", "A mistake of the tool's own."),
    ("73", "The output already exists or cannot be created."),
    ("74", "Reading or writing failed after it had begun."),
    ("130", "The user interrupted the work."),
]
ENVIRONMENT = [
    ("COLUMNS", "The width of tables and messages on a terminal."),
    ("NO_COLOR", "No colour, unless --color always is given."),
    ("STEP3_KERNELS", "The instructions that codecs use: portable, avx2 or avx512 (default: the best there are)."),
    ("HF_TOKEN, HF_ENDPOINT, HF_HOME", "For sources on a hub, as its own client reads them."),
]


def escaped(text):
    """Text that troff takes for nothing else."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def spelling(name):
    return ("--" if name["kind"] == "long" else "-") + name["name"]


def argument_synopsis(argument):
    """`[--filter <regex>]`, `<path>`."""
    text = argument_names(argument, preferred=True)
    repeated = " ..." if argument["isRepeating"] else ""
    text += repeated
    return f"[{text}]" if argument["isOptional"] else text


def argument_names(argument, preferred=False):
    value = f"<{argument['valueName']}>" if argument["kind"] != "flag" and argument.get("valueName") else ""
    if argument["kind"] == "positional":
        return value
    names = [argument["preferredName"]] if preferred else argument["names"]
    spelled = ", ".join(spelling(name) for name in names)
    return f"{spelled} {value}".strip()


def shown(arguments):
    return [argument for argument in arguments or [] if argument["shouldDisplay"]]


def paragraphs(text):
    """The lines of a discussion: text filled, indented lines as they are, lines of capitals as headings."""
    lines, literal = [], False
    for line in text.split("\n"):
        if line.startswith("  ") != literal and line:
            literal = not literal
            lines.append(".nf" if literal else ".fi")
        if not line:
            lines.append(".PP")
        elif re.fullmatch(r"[A-Z][A-Z ]+", line):
            lines.append(f".SS {line.title()}")
        else:
            lines.append(escaped(line))
    return lines + ([".fi"] if literal else [])


def definitions(rows):
    lines = []
    for term, text in rows:
        lines += [".TP", f"\\fB{escaped(term)}\\fR", escaped(text)]
    return lines


def meaning(argument):
    text = argument.get("abstract") or ""
    values = argument.get("allValues") or []
    default = argument.get("defaultValue")
    more = []
    if values and argument["kind"] == "option":
        more.append("one of " + ", ".join(values))
    if default is not None and argument["kind"] == "option" and "default:" not in text:
        more.append(f"default: {default}")
    return f"{text} ({'; '.join(more)})" if more else text


def command_lines(tool, command, usual):
    name = command["commandName"]
    arguments = [a for a in shown(command["arguments"]) if spelling_set(a).isdisjoint({"--version", "-h"})]
    lines = [f".SS {name}" + (" (the usual one: its name may be left out)" if usual else "")]
    lines += [escaped(command.get("abstract") or "")]
    positionals = " ".join(argument_synopsis(a) for a in arguments if a["kind"] == "positional")
    required = " ".join(argument_synopsis(a) for a in arguments if a["kind"] == "option" and not a["isOptional"])
    synopsis = " ".join(part for part in [tool, name, positionals, required, "[options]"] if part)
    lines += [".PP", f"\\fB{escaped(synopsis)}\\fR"]
    if command.get("discussion"):
        lines += [".PP", *paragraphs(command["discussion"])]
    return lines + definitions((argument_names(argument), meaning(argument)) for argument in arguments)


def spelling_set(argument):
    return {spelling(name) for name in argument.get("names") or []}


def page(path, date):
    description = json.loads(subprocess.check_output([path, "--experimental-dump-help"], text=True))["command"]
    version = subprocess.check_output([path, "--version"], text=True).strip()
    tool = description["commandName"]
    commands = [c for c in description["subcommands"] if c.get("shouldDisplay", True) and c["commandName"] != "help"]
    usual = description.get("defaultSubcommand")
    lines = [
        f'.\\" Written by Manuals/man/write.py from {tool} --experimental-dump-help',
        f'.TH {tool.upper()} 1 "{date}" "step3-toolkit {version}" "step3-toolkit"',
        ".SH NAME", escaped(f"{tool} - {description['abstract'].rstrip('.').lower()}"),
        ".SH SYNOPSIS", ".nf",
    ]
    for command in commands:
        own = [a for a in shown(command["arguments"]) if a["kind"] == "positional" or not a["isOptional"]]
        own.sort(key=lambda a: a["kind"] != "positional")
        name = f"[{command['commandName']}]" if command["commandName"] == usual else command["commandName"]
        lines.append(escaped(" ".join([tool, name, *(argument_synopsis(a) for a in own), "[options]"])))
    lines += [".fi", ".SH DESCRIPTION"]
    discussion, _, _ = description["discussion"].partition("\nEXIT STATUS")
    lines += paragraphs(discussion)
    lines += [".PP", f"{escaped(tool)} \\-\\-help lists the subcommands, {escaped(tool)} help SUBCOMMAND its options."]
    lines.append(".SH COMMANDS")
    for command in commands:
        lines += command_lines(tool, command, command["commandName"] == usual)
    lines += [".SH EXIT STATUS", *definitions(EXIT_STATUS)]
    lines += [".SH ENVIRONMENT", *definitions(ENVIRONMENT)]
    others = ", ".join(f"\\fB{escaped(name)}\\fR(1)" for name in TOOLS if name != tool)
    lines += [".SH SEE ALSO", others + ",", "and the pages in share/doc/step3-toolkit, trust.md first."]
    # No empty line: troff takes one for a paragraph.
    text = "\n".join(line for line in lines if line)
    return re.sub(r"(\n\.PP)+(?=\n\.(PP|SS|SH|TP))", "", text) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page(sys.argv[1], sys.argv[2]))
