/**
 * Detaches an ArrayBuffer, so that every view of it becomes empty. Used before `munmap`: a view that someone kept then
 * reads undefined instead of ending the process with SIGSEGV.
 *
 * Node 21 and later have `ArrayBuffer.prototype.transfer`. Node 20 marks buffers of addons untransferable for
 * structuredClone, and has only V8's own intrinsic, which is reached by allowing natives syntax while one function is
 * compiled.
 */
import v8 from 'node:v8';

type Transferable = ArrayBuffer & { transfer?: () => ArrayBuffer };

function compile(): (buffer: ArrayBuffer) => void {
  if ('transfer' in ArrayBuffer.prototype) return (buffer) => void (buffer as Transferable).transfer?.();
  v8.setFlagsFromString('--allow-natives-syntax');
  const detach = new Function('buffer', '%ArrayBufferDetach(buffer)') as (buffer: ArrayBuffer) => void;
  // Functions are compiled lazily: compile it before the flag goes.
  detach(new ArrayBuffer(8));
  v8.setFlagsFromString('--no-allow-natives-syntax');
  return detach;
}

export const detachArrayBuffer = compile();
