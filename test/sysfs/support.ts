/** A daemon with its tree mounted, and accesses to attributes as programs make them. */
import { spawn } from 'node:child_process';
import { closeSync, constants, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { type DaemonSetup, TestDaemon } from '../daemon/support.js';

const EUSERS = 87;

export class Tree {
  readonly daemon: TestDaemon;

  constructor(daemon: TestDaemon) {
    this.daemon = daemon;
  }

  static async ready(t: Test, setup: DaemonSetup = {}): Promise<Tree> {
    const daemon = await TestDaemon.ready(t, { ...setup, treeInFolder: true });
    return new Tree(daemon);
  }

  get root(): string {
    return this.daemon.tree;
  }

  path(...names: string[]): string {
    return join(this.root, ...names);
  }

  /** Of a type: `mdpy/mdpy-xga`. */
  type(name: string, ...more: string[]): string {
    const [gpu = '', type = ''] = name.split('/');
    return this.path('class/mdev_bus', gpu, 'mdev_supported_types', type, ...more);
  }

  vgpu(id: string, ...more: string[]): string {
    return this.path('bus/mdev/devices', id, ...more);
  }

  read(path: string): string {
    return readFileSync(path, 'utf8').trimEnd();
  }

  /** One write. @returns the error's name, or undefined */
  write(path: string, text: string): string | undefined {
    let fd = -1;
    try {
      fd = openSync(path, constants.O_WRONLY);
      const written = writeSync(fd, text);
      return written === Buffer.byteLength(text) ? undefined : `${written} bytes`;
    } catch (error) {
      const { code, errno } = error as NodeJS.ErrnoException;
      // libuv has no name for it.
      return errno === -EUSERS ? 'EUSERS' : code;
    } finally {
      if (fd >= 0) closeSync(fd);
    }
  }

  list(path: string): string[] {
    return readdirSync(path).sort();
  }

  /** Everything that can be read below a folder, by path. */
  snapshot(path = this.root): Record<string, string> {
    const values: Record<string, string> = {};
    const walk = (folder: string): void => {
      for (const entry of readdirSync(folder, { withFileTypes: true })) {
        const child = join(folder, entry.name);
        if (entry.isDirectory()) walk(child);
        else
          try {
            values[child.slice(path.length + 1)] = entry.isSymbolicLink() ? 'link' : this.read(child);
          } catch (error) {
            values[child.slice(path.length + 1)] = (error as NodeJS.ErrnoException).code as string;
          }
      }
    };
    walk(path);
    return values;
  }
}

/** Runs a script with plain sh. */
export const sh = (script: string, ...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> =>
  new Promise((resolve) => {
    const child = spawn('sh', ['-eu', '-c', script, 'sh', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
