/**
 * Kernel modules and what they depend on. Debian's package has no `modules.dep` (depmod writes it where the kernel is installed), so the
 * lab writes one for the modules that it keeps, from what each says of itself.
 */

/** The name by which the kernel knows a module: `vfio-pci.ko` is `vfio_pci`. */
export const moduleName = (file: string): string =>
  file
    .slice(file.lastIndexOf('/') + 1)
    .replace(/\.ko$/, '')
    .replaceAll('-', '_');

/** Modules named in `depends=` of a module's `.modinfo` section, where each entry ends with a zero byte. */
export function dependsOf(ko: Buffer): string[] {
  const key = Buffer.from('\0depends=');
  const at = ko.indexOf(key);
  if (at < 0) return [];
  const text = ko.toString('latin1', at + key.length, ko.indexOf(0, at + key.length));
  return text === '' ? [] : text.split(',').map(moduleName);
}

/** A parsed `modules.dep` (depmod(8)): a module's name, its file and those that it depends on. */
export type ModulesDep = ReadonlyMap<string, { readonly file: string; readonly needs: readonly string[] }>;

/** @throws Error when a line is not `FILE: FILE...` */
export function parseModulesDep(text: string): ModulesDep {
  const modules = new Map<string, { file: string; needs: string[] }>();
  for (const line of text.split('\n').filter((line) => line !== '')) {
    const [, file, needs] = /^([^\s:]+):((?: [^\s:]+)*)$/.exec(line) ?? [];
    if (file === undefined || needs === undefined) throw new Error(`modules.dep: '${line}' is not 'FILE: FILE...'`);
    modules.set(moduleName(file), {
      file,
      needs: needs
        .split(' ')
        .filter((need) => need !== '')
        .map(moduleName),
    });
  }
  return modules;
}

/**
 * The files of the modules `wanted` and of all that they depend on, each after those that it needs, none twice.
 * @throws Error when one is not there, or when they need each other
 */
export function loadOrder(modules: ModulesDep, wanted: readonly string[]): string[] {
  const order = new Set<string>();
  const add = (name: string, path: readonly string[]): void => {
    if (path.includes(name)) throw new Error(`kernel modules need each other: ${[...path, name].join(' -> ')}`);
    const module = modules.get(name);
    if (module === undefined) throw new Error(`no kernel module ${[...path, name].join(' -> ')} in modules.dep`);
    if (order.has(module.file)) return;
    for (const need of module.needs) add(need, [...path, name]);
    order.add(module.file);
  };
  for (const name of wanted) add(moduleName(name), []);
  return [...order];
}
