"""What a shell completes after `tlkeras`: commands, flags and their words."""

from collections.abc import Iterable
from collections.abc import Mapping

from tlkeras.settings import setting as setting_rules

_BASH = """\
_tlkeras() {{
  local line=${{COMP_LINE:0:COMP_POINT}} command=${{COMP_WORDS[1]-}} words
  local word=${{line##*[[:space:]]}} before= flag=
  COMPREPLY=()
  case "$word" in
    *=*) flag=${{word%%=*}}= word=${{word#*=}} ;;
  esac
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="{commands}"
  else
    case "$command ${{flag:-$word}}" in
{choices}
      *=) return ;;
      *" --"*)
        case "$command" in
{flags}
        esac ;;
      *) return ;;
    esac
  fi
  # Bash divides a word at "=", and zsh does not.
  [ -n "${{COMP_WORDBREAKS-}}" ] || before=$flag
  for word in $(compgen -W "$words" -- "$word"); do
    COMPREPLY+=("$before$word")
  done
  case "${{COMPREPLY[0]-}}" in
    *=) compopt -o nospace 2>/dev/null ;;
  esac
}}
complete -o default -F _tlkeras tlkeras"""


_ZSH = """\
_tlkeras() {{
  if (( CURRENT == 2 )); then
    compadd -- {commands}
    return
  fi
  case $PREFIX in
    --*=*)
      local flag=${{PREFIX%%=*}}=
      compset -P '*='
      case "$words[2] $flag" in
{choices}
        *) _files ;;
      esac ;;
    --*)
      case $words[2] in
{flags}
      esac ;;
    *) _files ;;
  esac
}}
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}
compdef _tlkeras tlkeras"""

_FISH_COMMANDS = (
    "complete -c tlkeras -f -n __fish_use_subcommand -a '{commands}'"
)
_FISH_FLAG = (
    "complete -c tlkeras -n '__fish_seen_subcommand_from {command}' -l {name}"
)

SHELLS = ("bash", "zsh", "fish")


def script(
    shell: str, commands: Mapping[str, Iterable[setting_rules.Setting]]
) -> str:
    """Returns what a shell reads to complete the words of a command line.

    shell: one of `SHELLS`. commands: the settings of each. Where nothing of
    ours fits, files do.
    """
    if shell == "fish":
        return _fish(commands)
    choices: list[str] = []
    flags: list[str] = []
    for command, settings in commands.items():
        words = []
        for setting in settings:
            flag = f"--{setting.name}{'' if _is_switch(setting) else '='}"
            words.append(flag)
            if allowed := " ".join(_allowed(setting)):
                choices.append(
                    f'      "{command} {flag}") words="{allowed}" ;;'
                    if shell == "bash"
                    else f'        "{command} {flag}") compadd -- {allowed} ;;'
                )
        names = " ".join(words)
        flags.append(
            f'          {command}) words="{names}" ;;'
            if shell == "bash"
            else f"        {command}) compadd -S '' -- {names} ;;"
        )
    return {"bash": _BASH, "zsh": _ZSH}[shell].format(
        commands=" ".join(commands),
        choices="\n".join(choices),
        flags="\n".join(flags),
    )


def _fish(commands: Mapping[str, Iterable[setting_rules.Setting]]) -> str:
    lines = [_FISH_COMMANDS.format(commands=" ".join(commands))]
    for command, settings in commands.items():
        for setting in settings:
            line = _FISH_FLAG.format(command=command, name=setting.name)
            allowed = " ".join(_allowed(setting))
            if allowed:
                line += f" -x -a '{allowed}'"
            elif not _is_switch(setting):
                line += " -r"
            lines.append(line)
    return "\n".join(lines)


def _is_switch(setting: setting_rules.Setting) -> bool:
    return setting.kinds == (bool,)


def _allowed(setting: setting_rules.Setting) -> tuple[str, ...]:
    """Returns the words that a setting can be, as far as they are known."""
    word = setting.rule.word
    return tuple(setting.rule.choices or ((word,) if word else ()))
