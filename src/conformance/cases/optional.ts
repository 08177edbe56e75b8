/** set_opregion, set_edid, get_vfio_device and put_vfio_device. */
import type { HostPages } from '../../core/mpt.js';
import { type CaseSpec, type ConformanceCase, group } from '../case.js';
import { equal } from '../expect.js';

const EDID_LENGTH = 128;

/** An EDID block with a right checksum (VESA E-EDID: header, then zeros). */
export function edidBlock(): Uint8Array {
  const edid = new Uint8Array(EDID_LENGTH);
  edid.fill(0xff, 1, 7);
  edid[EDID_LENGTH - 1] = (256 - (edid.reduce((sum, byte) => sum + byte, 0) % 256)) % 256;
  return edid;
}

const opregion = group('opregion', { operations: ['set_opregion'], needs: ['setOpregion', 'hostPages'] }, [
  {
    name: 'accepted',
    rule: 'set_opregion takes two host pages.',
    run(ctx) {
      const pages = ctx.hostPages(2);
      pages.bytes.set(new TextEncoder().encode('IntelGraphicsMem'));
      ctx.handle.setOpregion(pages);
    },
  },
  ...([1, 3] as const).map(
    (count): CaseSpec => ({
      name: `pages-${count}`,
      rule: 'set_opregion refuses any other number of pages as INVALID_ARGUMENT with the limit 2.',
      run(ctx) {
        ctx.refuses('INVALID_ARGUMENT', 'set_opregion', () => ctx.handle.setOpregion(ctx.hostPages(count)), { size: count, limit: 2 });
      },
    }),
  ),
  {
    name: 'no-pages',
    rule: 'set_opregion refuses an object without pages as INVALID_ARGUMENT.',
    run(ctx) {
      ctx.refuses('INVALID_ARGUMENT', 'set_opregion', () => ctx.handle.setOpregion({ count: 0 } as HostPages));
    },
  },
]);

const edid = group('edid', { operations: ['set_edid'], needs: ['setEdid'] }, [
  ...([0, 1, 4] as const).map(
    (port): CaseSpec => ({
      name: `port-${port}`,
      rule: 'set_edid takes one block with a right checksum for each port from 0 to 4, also repeatedly.',
      run(ctx) {
        ctx.handle.setEdid(port, edidBlock());
        ctx.handle.setEdid(port, edidBlock());
      },
    }),
  ),
  ...([-1, 5, 1.5, Number.NaN] as const).map(
    (port): CaseSpec => ({
      name: `port-${port < 0 ? 'negative' : port === 5 ? '5' : port === 1.5 ? 'fraction' : 'nan'}-refused`,
      rule: 'A port outside 0 to 4 is refused as INVALID_ARGUMENT.',
      run(ctx) {
        ctx.refuses('INVALID_ARGUMENT', 'set_edid', () => ctx.handle.setEdid(port, edidBlock()));
      },
    }),
  ),
  ...([0, 127, 129, 256] as const).map(
    (length): CaseSpec => ({
      name: `length-${length}-refused`,
      rule: 'An EDID that is not 128 bytes long is refused as INVALID_ARGUMENT with size and limit.',
      run(ctx) {
        ctx.refuses('INVALID_ARGUMENT', 'set_edid', () => ctx.handle.setEdid(1, new Uint8Array(length)), { size: length, limit: 128 });
      },
    }),
  ),
  {
    name: 'checksum-refused',
    rule: 'An EDID with a wrong checksum is refused as INVALID_ARGUMENT.',
    run(ctx) {
      const block = edidBlock();
      block[20] = 1;
      ctx.refuses('INVALID_ARGUMENT', 'set_edid', () => ctx.handle.setEdid(1, block));
    },
  },
  {
    name: 'source-may-change',
    rule: 'set_edid leaves the block that it was given alone.',
    run(ctx) {
      const block = edidBlock();
      ctx.handle.setEdid(1, block);
      equal(block.join(), edidBlock().join(), 'the block');
    },
  },
]);

const vfioDevice = group('vfio-device', { operations: ['get_vfio_device', 'put_vfio_device'], needs: ['vfioDevice'] }, [
  {
    name: 'references-balance',
    rule: 'Each get_vfio_device needs one put_vfio_device; one more answers NOT_MAPPED.',
    run(ctx) {
      for (let i = 0; i < 3; i++) ctx.handle.getVfioDevice();
      equal(ctx.handle.vfioReferences, 3, 'references');
      for (let i = 0; i < 3; i++) ctx.handle.putVfioDevice();
      equal(ctx.handle.vfioReferences, 0, 'references at the end');
      ctx.refuses('NOT_MAPPED', 'put_vfio_device', () => ctx.handle.putVfioDevice());
    },
  },
  {
    name: 'put-without-get',
    rule: 'put_vfio_device without a reference answers NOT_MAPPED.',
    operations: ['put_vfio_device'],
    run(ctx) {
      ctx.refuses('NOT_MAPPED', 'put_vfio_device', () => ctx.handle.putVfioDevice());
    },
  },
  {
    name: 'detach-drops-references',
    rule: 'detach_vgpu drops the references that are left.',
    operations: ['get_vfio_device', 'detach_vgpu'],
    run(ctx) {
      ctx.handle.getVfioDevice();
      ctx.handle.detachVgpu();
      equal(ctx.handle.vfioReferences, 0, 'references');
      equal(ctx.attach().vfioReferences, 0, 'references of the next attachment');
    },
  },
]);

export const OPTIONAL_CASES: readonly ConformanceCase[] = [...opregion, ...edid, ...vfioDevice];
