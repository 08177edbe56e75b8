/** What crosses between the main thread and a device thread. Everything is structured-cloneable. */

/** What a worker is started with. */
export interface DeviceThreadData {
  /** Module URL that exports `job`. */
  readonly jobUrl: string;
  readonly input: unknown;
  /** Two Int32: stop flag (1 asks to stop), kernel thread id (the worker writes it first). */
  readonly control: SharedArrayBuffer;
}

export interface ProgressMessage {
  readonly type: 'progress';
  readonly text: string;
}

export interface ResultMessage {
  readonly type: 'result';
  readonly value: unknown;
}

export interface FailureMessage {
  readonly type: 'failure';
  /** `MptError.toJSON()`; an unexpected error arrives as INTERNAL. */
  readonly error: Record<string, unknown>;
}

export type DeviceThreadMessage = ProgressMessage | ResultMessage | FailureMessage;

/** What a job may use besides its input. */
export interface JobContext {
  /** To be set as `backend.stopFlag`, so that a stop reaches every machine of the job. */
  readonly stopFlag: SharedArrayBuffer;
  /** True once a stop was asked. */
  stopped(): boolean;
  /** One line for a person who waits. */
  progress(text: string): void;
}

/** A job runs on the device thread, synchronously; its result must be structured-cloneable. */
export type Job<Input, Output> = (input: Input, context: JobContext) => Output;
