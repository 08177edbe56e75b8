/** What crosses between the main thread and a device thread. Everything is structured-cloneable. */
import type { MessagePort } from 'node:worker_threads';

/** What a worker is started with. */
export interface DeviceThreadData {
  /** Module URL that exports `job`. */
  readonly jobUrl: string;
  /** Module URLs that the job will load for its input. */
  readonly modules: readonly string[];
  /** Where the job's input comes, as the only message: some time after the start, or never. */
  readonly input: MessagePort;
  /** Three Int32: stop flag (1 asks to stop), kernel thread id (the worker writes it first), requests that wait. */
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

/** Something that the job tells while it runs. */
export interface NoticeMessage {
  readonly type: 'notice';
  readonly value: unknown;
}

/** The answer to a request of the main thread. */
export interface ReplyMessage {
  readonly type: 'reply';
  readonly id: number;
  readonly value: unknown;
}

export type DeviceThreadMessage = ProgressMessage | ResultMessage | FailureMessage | NoticeMessage | ReplyMessage;

/** What the main thread asks of a job that runs. */
export interface RequestMessage {
  readonly id: number;
  readonly request: unknown;
}

/** A request as the job sees it. */
export interface JobRequest {
  readonly request: unknown;
  /** Answers it, once. What is listed moves to the main thread instead of being copied. */
  reply(value: unknown, move?: readonly ArrayBuffer[]): void;
}

/** What a job may use besides its input. */
export interface JobContext {
  /** To be set as `backend.stopFlag`, so that a stop reaches every machine of the job. */
  readonly stopFlag: SharedArrayBuffer;
  /** Nanoseconds of processor time that the thread has had. */
  readonly threadNs: () => number;
  /** True once a stop was asked. */
  stopped(): boolean;
  /** One line for a person who waits. */
  progress(text: string): void;
  /** Tells the main thread something; it must be structured-cloneable. */
  notice(value: unknown): void;
  /** The next request of the main thread, if one waits. Cheap when none does. */
  takeRequest(): JobRequest | undefined;
}

/** A job runs on the device thread; what it awaits is the loading of its modules. Its result must be structured-cloneable. */
export type Job<Input, Output> = (input: Input, context: JobContext) => Output | Promise<Output>;
