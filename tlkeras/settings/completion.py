"""What a shell completes after `tlkeras`: commands, flags and their words."""

from collections.abc import Iterable
from collections.abc import Mapping

from tlkeras.settings import setting as setting_rules

_SCRIPT = """\
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


def script(commands: Mapping[str, Iterable[setting_rules.Setting]]) -> str:
    """Returns what bash reads to complete the words of a command line.

    commands: the settings of each. Where nothing of ours fits, files do.
    """
    choices: list[str] = []
    flags: list[str] = []
    for name, settings in commands.items():
        words = []
        for setting in settings:
            allowed = setting.rule.choices or (
                (setting.rule.word,) if setting.rule.word else ()
            )
            switch = setting.kinds == (bool,)
            words.append(f"--{setting.name}{'' if switch else '='}")
            if allowed:
                choices.append(
                    f'      "{name} --{setting.name}=") '
                    f'words="{" ".join(allowed)}" ;;'
                )
        flags.append(f'          {name}) words="{" ".join(words)}" ;;')
    return _SCRIPT.format(
        commands=" ".join(commands),
        choices="\n".join(choices),
        flags="\n".join(flags),
    )
