/**
 * A saved vGPU as one piece of bytes (docs/vgpu-state.md): a prefix, the header, the sections one after the other. Nothing in it depends on
 * a hypervisor: guest frames and GPU addresses only.
 */
import type { MptErrorDetails } from '../../errors.js';
import { crc32 } from './crc32.js';
import { checkHeader, FORMAT, FORMAT_VERSION, type StateHeader } from './header.js';
import { refusal } from './limits.js';

const MAGIC = new TextEncoder().encode('MPTVGPU\n');
/** Offsets in the prefix, and its size. Dwords are little endian. */
const PREFIX = { VERSION: 8, HEADER_BYTES: 12, HEADER_CRC: 16, SIZE: 20 } as const;
const HEADER_BYTES_MAX = 1 << 16;
/** The largest vGPU, with every register and every GGTT entry in use, has less than half of this. */
export const DOCUMENT_BYTES_MAX = 1 << 24;

export interface StateDocument {
  readonly header: StateHeader;
  readonly sections: ReadonlyMap<string, Uint8Array>;
}

/** @param sections in order */
export function encodeDocument(
  of: Omit<StateHeader, 'format' | 'version' | 'sections'>,
  sections: ReadonlyMap<string, Uint8Array>,
): Uint8Array {
  const table = [...sections].map(([name, bytes]) => ({ name, bytes: bytes.length, crc32: crc32(bytes) }));
  const header: StateHeader = checkHeader({ format: FORMAT, version: FORMAT_VERSION, ...of, sections: table });
  const text = new TextEncoder().encode(JSON.stringify(header));
  const size = table.reduce((sum, { bytes }) => sum + bytes, PREFIX.SIZE + text.length);
  if (size > DOCUMENT_BYTES_MAX) throw refusal('save_vgpu', 'the state is larger than any can be', { size, limit: DOCUMENT_BYTES_MAX });
  const document = new Uint8Array(size);
  const view = new DataView(document.buffer);
  document.set(MAGIC);
  view.setUint32(PREFIX.VERSION, FORMAT_VERSION, true);
  view.setUint32(PREFIX.HEADER_BYTES, text.length, true);
  view.setUint32(PREFIX.HEADER_CRC, crc32(text), true);
  document.set(text, PREFIX.SIZE);
  let at = PREFIX.SIZE + text.length;
  for (const bytes of sections.values()) {
    document.set(bytes, at);
    at += bytes.length;
  }
  return document;
}

const refuse = (what: string, details: MptErrorDetails = {}): never => {
  throw refusal('restore_vgpu', what, details);
};

/**
 * Takes a document apart. The bytes may be hostile, and change later: they are copied once.
 * @throws MptError BAD_STATE
 */
export function parseDocument(bytes: Uint8Array): StateDocument {
  if (bytes.length > DOCUMENT_BYTES_MAX)
    refuse('the file is too large for a saved vGPU', { size: bytes.length, limit: DOCUMENT_BYTES_MAX });
  const document = new Uint8Array(bytes);
  const header = headerOf(document);
  const sections = new Map<string, Uint8Array>();
  let at = document.length - header.sections.reduce((sum, section) => sum + section.bytes, 0);
  if (at !== endOfHeader(document))
    refuse(at < endOfHeader(document) ? 'the saved state is truncated' : 'something follows the saved state');
  for (const { name, bytes: size, crc32: expected } of header.sections) {
    const section = document.subarray(at, at + size);
    at += size;
    if (crc32(section) !== expected) refuse(`the section '${name}' of the saved state is damaged`);
    if (sections.has(name)) refuse(`the section '${name}' of the saved state is there twice`);
    sections.set(name, section);
  }
  return { header, sections };
}

const dwordAt = (document: Uint8Array, at: number): number => new DataView(document.buffer).getUint32(at, true);

const endOfHeader = (document: Uint8Array): number => PREFIX.SIZE + dwordAt(document, PREFIX.HEADER_BYTES);

function headerOf(document: Uint8Array): StateHeader {
  if (MAGIC.some((byte, i) => document[i] !== byte)) refuse('this is no saved vGPU');
  if (document.length < PREFIX.SIZE) refuse('the saved state is truncated');
  const version = dwordAt(document, PREFIX.VERSION);
  if (version !== FORMAT_VERSION) refuse(`the saved state has the format version ${version}, and this program knows ${FORMAT_VERSION}`);
  const size = dwordAt(document, PREFIX.HEADER_BYTES);
  if (size > HEADER_BYTES_MAX) refuse('the header of the saved state is too long', { size, limit: HEADER_BYTES_MAX });
  if (size > document.length - PREFIX.SIZE) refuse('the saved state is truncated');
  const text = document.subarray(PREFIX.SIZE, PREFIX.SIZE + size);
  if (crc32(text) !== dwordAt(document, PREFIX.HEADER_CRC)) refuse('the header of the saved state is damaged');
  return checkHeader(parseJson(text));
}

function parseJson(text: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(text));
  } catch {
    return refuse('the header of the saved state is no JSON');
  }
}
