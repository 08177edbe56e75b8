/** Stopping under load on the real /dev/kvm. */
import t from 'tap';
import { endsWithItsProcess } from '../native/shutdown.js';
import { noKvm } from './support.js';

t.setTimeout(90_000);
endsWithItsProcess(t, 'kvm', {}, noKvm);
