/// A shell that completes the tools' command lines.
package enum CompletionShell: String, CaseIterable, Sendable {
  case bash, zsh, fish

  /// The script that makes the shell ask `tool` for completions.
  package func script(for tool: String) -> String {
    let function = "_" + tool.map { $0 == "-" ? "_" : String($0) }.joined()
    switch self {
    case .bash:
      return #"""
        # Completion of \#(tool) in bash: the tool itself says what fits.
        \#(function)() {
          local paths value meaning
          local current=${COMP_WORDS[COMP_CWORD]}
          [ "$current" = "=" ] && current=
          COMPREPLY=()
          {
            IFS= read -r paths
            while IFS=$'\t' read -r value meaning; do COMPREPLY+=("$value"); done
          } < <("$1" ---complete bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
          [ ${#COMPREPLY[@]} -eq 1 ] && case ${COMPREPLY[0]} in *=) compopt -o nospace 2>/dev/null ;; esac
          case $paths in
          files) while IFS= read -r value; do COMPREPLY+=("$value"); done < <(compgen -f -- "$current") ;;
          directories) while IFS= read -r value; do COMPREPLY+=("$value"); done < <(compgen -d -- "$current") ;;
          *) return ;;
          esac
          compopt -o filenames 2>/dev/null
        }
        complete -F \#(function) \#(tool)

        """#
    case .zsh:
      return #"""
        #compdef \#(tool)
        # Completion of \#(tool) in zsh: the tool itself says what fits.
        \#(function)() {
          local paths value meaning
          local -a described
          {
            IFS= read -r paths
            while IFS=$'\t' read -r value meaning; do described+=("${value//:/\\:}:$meaning"); done
          } < <("$words[1]" ---complete zsh "${(@)words[2,CURRENT]}" 2>/dev/null)
          (( $#described )) && _describe '\#(tool)' described
          case $paths in
          files) _files ;;
          directories) _files -/ ;;
          esac
        }
        if [[ $funcstack[1] == _\#(tool) ]]; then \#(function) "$@"; else compdef \#(function) \#(tool); fi

        """#
    case .fish:
      return #"""
        # Completion of \#(tool) in fish: the tool itself says what fits.
        function _\#(function)
          set -l words (commandline -opc)
          set -l current (commandline -ct)
          set -l lines ($words[1] ---complete fish $words[2..-1] "$current" 2>/dev/null)
          test (count $lines) -gt 1; and printf '%s\n' $lines[2..-1]
          switch "$lines[1]"
            case files
              __fish_complete_path "$current"
            case directories
              __fish_complete_directories "$current"
          end
        end
        complete -c \#(tool) -f -a '(_\#(function))'

        """#
    }
  }
}
