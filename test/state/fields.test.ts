/**
 * No field of the device model is forgotten: each one that can change passes through its class's `exchange`, or says in its comment why it is
 * not saved; each class that has such fields is a part of the state, or stands here with the reason why not.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const FOLDER = fileURLToPath(new URL('../../../src/core/gvt/', import.meta.url));

/** Classes that change and are no part of a saved vGPU. */
const NOT_STATE: Readonly<Record<string, string>> = {
  Gvt: 'the device model of all vGPUs',
  GvtVfioView: 'what a VFIO user has of the vGPU',
  PlaneCopy: 'buffers of a VFIO user',
  RegisterTable: 'the same for every vGPU',
  PlaneRows: 'of one picture',
  SurfaceReader: 'of one picture',
  Schedule: 'whose turn it is on the GPU',
  Turns: 'of the schedule',
  ScheduleState: 'of the schedule',
  Slices: 'of the schedule',
  Space: 'the GPU',
  ResourcePool: 'the GPU',
  OpRegionPages: 'has an exchange of its own, called by exchangeOpRegion',
  GuestErrors: 'the rate of a log',
  TraceLog: 'what the operator looks at',
  AuxChannel: 'a message is answered inside the access that sends it',
  Interrupts: 'held only inside an access, and then nothing is saved; pending interrupts are registers',
  SwitchEvents: 'what waits to be told is told before a save; the pace is found again',
  PageTrack: 'frames are tracked again as shadows are built',
  Shadow: 'built again as the engine walks',
  ShadowTable: 'of the shadow',
  TableFrame: 'of the shadow',
  LeafPages: 'of the shadow',
  AddressSpace: 'of the shadow',
  DmaPages: 'views of memory',
  PageCache: 'views of memory',
  TableCopy: 'of the shadow',
  Spares: 'of the shadow',
  SectionStream: 'of the save and the restore themselves',
  StateWriter: 'of the save itself',
  StateReader: 'of the restore itself',
};

interface Field {
  readonly name: string;
  readonly text: string;
  readonly comment: string;
}

interface Class {
  readonly name: string;
  readonly file: string;
  readonly saved: boolean;
  readonly fields: readonly Field[];
  /** Text of the methods through which the state passes. */
  readonly exchange: string;
}

const SOURCES = readdirSync(FOLDER, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
const CLASS = /^(?:export )?(?:abstract )?class (\w+)([^{]*)\{\n(.*?)^\}/gms;
const FIELD = /((?:^ {2}\/\*\*.*?\*\/\n)?)^ {2}((?:readonly )?)(#?\w+)(!?\??: [^=(;]+)?( = [^\n]*)?(?:;|\n)/gms;
const METHODS = /^ {2}(?:get |static )?(?:exchange|#exchange\w*|#settle|#adopt|sections)\b.*?^ {2}\}/gms;
/** What is given once and never changes, though `readonly` does not say so of its content. */
const CONTAINER = /Array|Map<|Set<|\[\]|new /;

function classesOf(file: string): Class[] {
  const source = readFileSync(join(FOLDER, file), 'utf8');
  return [...source.matchAll(CLASS)].map(([, name, heritage, body]) => {
    const text = body as string;
    // Fields stand before the constructor and the first method.
    const end = text.search(/^ {2}(?:private )?(?:constructor|(?:get |static |async )?#?\w+(?:<\w+>)?\([^\n]*\{$|get \w+\(\))/m);
    const declarations = text.slice(0, end < 0 ? text.length : end);
    const fields = [...declarations.matchAll(FIELD)]
      .filter(([, , readonly, , type, value]) => readonly === '' || CONTAINER.test(`${type ?? ''}${value ?? ''}`))
      .filter(([, , , , , value]) => !/=>/.test(value ?? '') || /map\(/.test(value ?? ''))
      .map(([whole, comment, , field]) => ({ name: field as string, text: whole as string, comment: comment as string }));
    return {
      name: name as string,
      file,
      saved: /\bSaved\b/.test(heritage as string),
      fields,
      exchange: [...text.matchAll(METHODS)].map(([method]) => method).join('\n'),
    };
  });
}

const classes = SOURCES.flatMap(classesOf).filter(({ fields }) => fields.length > 0);

t.test('every class that changes is a part of the state, or says why not', async (t) => {
  for (const { name, file, saved } of classes)
    if (!saved) t.ok(Object.hasOwn(NOT_STATE, name), `${file}: ${name} has fields that change: is it a part of a saved vGPU?`);
  for (const name of Object.keys(NOT_STATE))
    t.ok(
      classes.some((found) => found.name === name && !found.saved),
      `${name} is still there`,
    );
  t.ok(classes.filter(({ saved }) => saved).length >= 10, 'the parts are found');
});

t.test('every field of a part is saved, or says why not', async (t) => {
  let found = 0;
  for (const { name, file, saved, fields, exchange } of classes) {
    if (!saved) continue;
    for (const field of fields) {
      const used = new RegExp(`this\\.${field.name}\\b`).test(exchange);
      if (used) found++;
      t.ok(used || /Not saved:/.test(field.comment), `${file}: ${name}.${field.name} is neither in exchange nor 'Not saved: …'`);
    }
  }
  t.ok(found > 50, `${found} fields are saved`);
});
