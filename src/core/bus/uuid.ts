/** UUIDs as the kernel's mdev takes them: 36 characters, any case; told apart by their value. */

/** Lower case. */
export type Uuid = string & { readonly uuid: never };

const FORM = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export const parseUuid = (text: string): Uuid | undefined => (FORM.test(text) ? (text.toLowerCase() as Uuid) : undefined);

/** A UUID of version 4 (RFC 9562, section 5.4) from 16 random bytes. */
export function randomUuid(random: Uint8Array): Uuid {
  const bytes = random.slice(0, 16);
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  const digits = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return [digits.slice(0, 8), digits.slice(8, 12), digits.slice(12, 16), digits.slice(16, 20), digits.slice(20, 32)].join('-') as Uuid;
}
