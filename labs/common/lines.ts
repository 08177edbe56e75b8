/** Gives whole lines to `take`, without the newline: text comes in pieces. */
export function byLine(take: (line: string) => void): (bytes: Buffer) => void {
  let rest = '';
  return (bytes) => {
    const lines = (rest + bytes.toString('latin1')).split('\n');
    rest = lines.pop() as string;
    for (const line of lines) take(line);
  };
}
