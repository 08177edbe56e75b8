/** What tests look at of a page: its bytes, live. */
import type { PageView } from '../../src/core/gvt/gpu-page.js';
import type { GpuPage } from '../../src/core/gvt/roles.js';

export const view = (page: GpuPage | undefined): PageView | undefined => page as PageView | undefined;
