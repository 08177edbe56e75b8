/** Shell completion: scripts for shells, which ask the command itself what may come next. */
import type { Command } from 'commander';
import { COMMON_SETTINGS } from '../core/bus/settings.js';
import { MptError } from '../core/errors.js';
import { controlSocket, defaultRuntime } from './daemon/config.js';
import { askDaemon } from './daemon/control-client.js';
import type { ControlRequest, ControlResults } from './daemon/control-protocol.js';

/** What a shell runs to have the command completed: it asks `mpt complete`, with the words until the cursor. */
const SCRIPTS: Readonly<Record<string, string>> = {
  bash: `_mpt() {
  local IFS=$'\\n'
  COMPREPLY=($(compgen -W "$(mpt complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "\${COMP_WORDS[COMP_CWORD]}"))
  [[ \${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
  return 0
}
complete -o default -F _mpt mpt
`,
  zsh: `#compdef mpt
_mpt() {
  local -a candidates
  candidates=(\${(f)"$(mpt complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)"})
  if [[ \${candidates[1]} == *= ]]; then compadd -S '' -a candidates
  elif (( \${#candidates} )); then compadd -a candidates
  else _files; fi
}
compdef _mpt mpt
`,
  fish: `complete -c mpt -f -a '(mpt complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
`,
};

export const SHELLS = Object.keys(SCRIPTS);

/** @throws MptError INVALID_ARGUMENT */
export function completionScript(shell: string): string {
  const script = SCRIPTS[shell];
  if (script === undefined)
    throw new MptError('INVALID_ARGUMENT', `there is no completion for '${shell.slice(0, 40)}'`, {
      op: 'completion',
      hint: SHELLS.join(', '),
    });
  return script;
}

/** What values come from: the daemon, or what a vGPU can be told. */
type Source = 'types' | 'gpus' | 'uuids' | 'settings' | 'live settings';

/** Of arguments, by their place (`more`: all behind), and of options. */
const VALUES: Readonly<Record<string, Readonly<Record<string, Source>>>> = {
  create: { '0': 'types', '--gpu': 'gpus', '--set': 'settings' },
  remove: { '0': 'uuids' },
  show: { '0': 'uuids' },
  set: { '0': 'uuids', more: 'live settings' },
};

/**
 * What may come next, of which the shell takes those that fit.
 * @param words after `mpt`, the last one being written
 */
export async function completions(program: Command, words: readonly string[]): Promise<string[]> {
  let command = program;
  let given = 0;
  let wants: string | undefined;
  for (const word of words.slice(0, -1)) {
    if (wants !== undefined) wants = undefined;
    else if (word.startsWith('-')) wants = takesValue(command, word) ? word : undefined;
    else {
      const next = command.commands.find((candidate) => candidate.name() === word);
      if (next === undefined) given++;
      else command = next;
    }
  }
  const values = VALUES[command.name()] ?? {};
  if (wants !== undefined) return [...choicesOf(command, wants), ...(await known(values[wants]))];
  if (words.at(-1)?.startsWith('-') === true) return optionsOf(command);
  const subcommands = command.commands.map((candidate) => candidate.name()).filter((name) => name !== 'complete');
  if (subcommands.length > 0) return subcommands;
  return [
    ...(command.registeredArguments[given]?.argChoices ?? []),
    ...(await known(values[given] ?? (given > 0 ? values['more'] : undefined))),
  ];
}

const optionOf = (command: Command, word: string) => command.options.find(({ long, short }) => long === word || short === word);
const takesValue = (command: Command, word: string): boolean => {
  const option = optionOf(command, word);
  return option !== undefined && (option.required || option.optional);
};
const choicesOf = (command: Command, word: string): string[] => [...(optionOf(command, word)?.argChoices ?? [])];
const optionsOf = (command: Command): string[] => [
  ...command.options.flatMap(({ long }) => (long === undefined || long === null ? [] : [long])),
  '--help',
];

/** Nothing where no daemon answers: a completion has nobody to complain to. */
async function known(what: Source | undefined): Promise<string[]> {
  if (what === undefined) return [];
  try {
    return await VALUES_OF[what]();
  } catch {
    return [];
  }
}

const ask = <R extends ControlRequest>(request: R): Promise<ControlResults[R['op']]> => askDaemon(controlSocket(defaultRuntime()), request);

const VALUES_OF: Readonly<Record<Source, () => Promise<string[]>>> = {
  types: async () => [...new Set((await ask({ op: 'types' })).map(({ name }) => name))],
  gpus: async () => [...new Set((await ask({ op: 'types' })).map(({ gpu }) => gpu))],
  uuids: async () => (await ask({ op: 'list' })).map(({ uuid }) => uuid),
  settings: async () => {
    const { GVT_SETTINGS } = await import('../core/bus/gvt-settings.js');
    return [...COMMON_SETTINGS, ...GVT_SETTINGS].map(({ name }) => `${name}=`);
  },
  'live settings': async () => COMMON_SETTINGS.filter(({ live }) => live).map(({ name }) => `${name}=`),
};
