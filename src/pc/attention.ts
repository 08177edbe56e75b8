/**
 * One flag that the interpreter looks at before each instruction: set by whatever the straight run of instructions
 * cannot handle (an access to report, an interrupt, a halt). Everything else is looked at only when it is set.
 */
export class Attention {
  raised = false;
}
