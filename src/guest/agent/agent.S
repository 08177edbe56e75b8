# The guest agent: fetches commands from the host through a port and carries each out with real instructions.
# GNU as, Intel syntax, 32-bit x86. Built by scripts/assemble-agent.mjs into agent.lst and ../agent-image.ts.
#
# Entry: real mode, CS = AGENT_GPA >> 4, IP = 0, a local APIC at 0xfee00000. Nothing else is assumed: registers, other
# segments, the stack and memory past the image may hold anything.
#
# Protocol: `in eax, dx` from AGENT_PORT takes the next command dword or argument, `out dx, eax` returns a result. A
# command is over when the next one is fetched. The host is trusted: opcodes are not checked here.
# ../agent.ts states the same constants; test/guest compares them.

.intel_syntax noprefix

.equ AGENT_GPA,        0x8000     # this image; linked for exactly this address
.equ AGENT_IDT,        0x9000     # 256 gates of 8 bytes
.equ AGENT_STUBS,      0x9800     # 256 stubs of 8 bytes
.equ AGENT_COUNTERS,   0xa000     # 256 dwords: interrupts taken, by vector
.equ AGENT_SCRATCH,    0xa400     # 8 bytes: halves of a quadword on their way to and from mm0
.equ AGENT_STACK_TOP,  0x10000    # grows down; the first byte that the agent leaves free
.equ AGENT_PORT,       0xe00      # commands and results, dword accesses
.equ AGENT_FAULT_PORT, 0xe04      # vector, EIP, error code of an exception, three dwords

.equ APIC_EOI,         0xfee000b0
.equ APIC_SVR,         0xfee000f0
.equ APIC_LVT_LINT0,   0xfee00350
.equ SVR_ENABLE,       0x1ff      # software enable, spurious vector 0xff
.equ LVT_MASKED,       0x10000

.equ CR0_PROTECTED,    0x33       # PE, MP, ET, NE; EM, TS and PG clear: MMX works, no paging
.equ CODE_SELECTOR,    0x08
.equ DATA_SELECTOR,    0x10
.equ INTERRUPT_GATE,   0x8e00     # present, DPL 0, 32-bit interrupt gate: IF is clear in the handler
.equ STUB_SHIFT,       3          # log2 of bytes a stub and a gate
.equ EFLAGS_IF,        0x200
.equ FIRST_INTERRUPT,  32         # vectors below are exceptions
.equ PUSHES_ERROR,     0x60227d00 # exceptions that push an error code: 8, 10-14, 17, 21, 29, 30

.text

# ---- 16-bit real mode ------------------------------------------------------------------------------------------------
.code16
.globl start
start:
    cli
    lgdt    cs:[gdt_pointer - AGENT_GPA]
    mov     eax, CR0_PROTECTED
    mov     cr0, eax
    .byte   0x66, 0xea                  # ljmp CODE_SELECTOR:protected with a 32-bit offset
    .long   protected
    .word   CODE_SELECTOR

# ---- 32-bit protected mode, flat, no paging --------------------------------------------------------------------------
.code32
.globl protected
protected:
    mov     eax, DATA_SELECTOR
    mov     ds, eax
    mov     es, eax
    mov     ss, eax
    mov     esp, AGENT_STACK_TOP
    fninit

# Gates, stubs and counters. A stub is `call interrupt`: the return address that it pushes tells the vector. All
# addresses are below 64 KiB, so a gate's high dword and a stub's fifth byte are the same for every vector, and each low
# dword differs from the one before by a constant.
    mov     edi, AGENT_IDT
    mov     esi, AGENT_COUNTERS
    mov     eax, (CODE_SELECTOR << 16) | AGENT_STUBS
    mov     ebx, ((interrupt - start + AGENT_GPA - AGENT_STUBS - 5) << 8) | 0xe8
    mov     edx, INTERRUPT_GATE
    mov     ebp, 0x909090ff             # the call's sign byte, then padding
    mov     ecx, 256
1:  mov     [edi], eax
    mov     [edi + 4], edx
    mov     [edi + AGENT_STUBS - AGENT_IDT], ebx
    mov     [edi + AGENT_STUBS - AGENT_IDT + 4], ebp
    mov     dword ptr [esi], 0
    add     eax, 1 << STUB_SHIFT
    sub     ebx, 1 << (STUB_SHIFT + 8)
    add     edi, 1 << STUB_SHIFT
    add     esi, 4
    loop    1b
    lidt    [idt_pointer]

# LINT0 is masked because an uninitialised interrupt controller may be wired to it.
    mov     dword ptr [APIC_LVT_LINT0], LVT_MASKED
    mov     dword ptr [APIC_SVR], SVR_ENABLE
    sti

# ---- command loop ----------------------------------------------------------------------------------------------------
next:
    mov     edx, AGENT_PORT
fetch:                                  # for commands that leave AGENT_PORT in edx
    in      eax, dx
    jmp     [commands + eax * 4]

# read gpa -> value
read8:
    in      eax, dx
    movzx   eax, byte ptr [eax]
    jmp     reply
read16:
    in      eax, dx
    movzx   eax, word ptr [eax]
    jmp     reply
read32:
    in      eax, dx
    mov     eax, [eax]
reply:
    out     dx, eax
    jmp     fetch
# read64 gpa -> low, high. One 8-byte load.
read64:
    in      eax, dx
    movq    mm0, [eax]
    movq    [AGENT_SCRATCH], mm0
    mov     eax, [AGENT_SCRATCH]
    out     dx, eax
    mov     eax, [AGENT_SCRATCH + 4]
    jmp     reply

# write gpa, value
write8:
    in      eax, dx
    mov     edi, eax
    in      eax, dx
    mov     [edi], al
    jmp     fetch
write16:
    in      eax, dx
    mov     edi, eax
    in      eax, dx
    mov     [edi], ax
    jmp     fetch
write32:
    in      eax, dx
    mov     edi, eax
    in      eax, dx
    mov     [edi], eax
    jmp     fetch
# write64 gpa, low, high. One 8-byte store.
write64:
    in      eax, dx
    mov     edi, eax
    mov     ecx, 1
    jmp     next_quadword

# stream gpa, count, dwords
stream32:
    in      eax, dx
    mov     edi, eax
    in      eax, dx
    mov     ecx, eax
1:  in      eax, dx
    mov     [edi], eax
    add     edi, 4
    loop    1b
    jmp     fetch
# stream64 gpa, count, (low, high) pairs. One 8-byte store each.
stream64:
    in      eax, dx
    mov     edi, eax
    in      eax, dx
    mov     ecx, eax
next_quadword:
    in      eax, dx
    mov     [AGENT_SCRATCH], eax
    in      eax, dx
    mov     [AGENT_SCRATCH + 4], eax
    movq    mm0, [AGENT_SCRATCH]
    movq    [edi], mm0
    add     edi, 8
    loop    next_quadword
    jmp     fetch

# in port -> value
in8:
    in      eax, dx
    mov     edx, eax
    xor     eax, eax
    in      al, dx
    jmp     port_reply
in16:
    in      eax, dx
    mov     edx, eax
    xor     eax, eax
    in      ax, dx
    jmp     port_reply
in32:
    in      eax, dx
    mov     edx, eax
    in      eax, dx
port_reply:
    mov     edx, AGENT_PORT
    jmp     reply

# out port, value
out8:
    in      eax, dx
    mov     ebx, eax
    in      eax, dx
    mov     edx, ebx
    out     dx, al
    jmp     next
out16:
    in      eax, dx
    mov     ebx, eax
    in      eax, dx
    mov     edx, ebx
    out     dx, ax
    jmp     next
out32:
    in      eax, dx
    mov     ebx, eax
    in      eax, dx
    mov     edx, ebx
    out     dx, eax
    jmp     next

# burst_read gpa, count; burst_write gpa, count, value. Nothing but the access and the loop instruction.
burst_read8:
    in      eax, dx
    mov     esi, eax
    in      eax, dx
    mov     ecx, eax
1:  mov     al, [esi]
    loop    1b
    jmp     fetch
burst_read16:
    in      eax, dx
    mov     esi, eax
    in      eax, dx
    mov     ecx, eax
1:  mov     ax, [esi]
    loop    1b
    jmp     fetch
burst_read32:
    in      eax, dx
    mov     esi, eax
    in      eax, dx
    mov     ecx, eax
1:  mov     eax, [esi]
    loop    1b
    jmp     fetch
burst_write8:
    in      eax, dx
    mov     edi, eax
    in      eax, dx
    mov     ecx, eax
    in      eax, dx
1:  mov     [edi], al
    loop    1b
    jmp     fetch
burst_write16:
    in      eax, dx
    mov     edi, eax
    in      eax, dx
    mov     ecx, eax
    in      eax, dx
1:  mov     [edi], ax
    loop    1b
    jmp     fetch
burst_write32:
    in      eax, dx
    mov     edi, eax
    in      eax, dx
    mov     ecx, eax
    in      eax, dx
1:  mov     [edi], eax
    loop    1b
    jmp     fetch

# wait_interrupt vector, count -> the counter, each time before halting. The counter is looked at with interrupts off,
# and an interrupt that comes after that is held until hlt has begun: sti takes effect after the instruction behind it.
wait_interrupt:
    in      eax, dx
    lea     edi, [eax * 4 + AGENT_COUNTERS]
    in      eax, dx
    mov     ecx, eax
1:  cli
    mov     eax, [edi]
    cmp     eax, ecx
    jae     2f
    out     dx, eax
    sti
    hlt
    jmp     1b
2:  sti
    jmp     fetch

# poll gpa, mask, value. No exits while it spins.
poll:
    in      eax, dx
    mov     esi, eax
    in      eax, dx
    mov     ebx, eax
    in      eax, dx
    mov     ecx, eax
1:  mov     eax, [esi]
    and     eax, ebx
    cmp     eax, ecx
    jne     1b
    jmp     fetch

# spin: for ever, with interrupts on.
spin:
    jmp     spin

# ---- interrupts and exceptions ---------------------------------------------------------------------------------------
# Stack: return address into the stub, [error code], EIP, CS, EFLAGS.
interrupt:
    push    eax
    mov     eax, [esp + 4]
    sub     eax, AGENT_STUBS + 5        # vector << STUB_SHIFT
    cmp     eax, FIRST_INTERRUPT << STUB_SHIFT
    jb      exception
    shr     eax, STUB_SHIFT - 2
    inc     dword ptr [eax + AGENT_COUNTERS]
    mov     dword ptr [APIC_EOI], 0
    pop     eax
    add     esp, 4
# The return is not iretd: where KVM interprets ring 0, its emulator has iret only for real mode. The flags come back with
# IF clear, then sti, whose effect waits for the instruction behind it, so no interrupt nests before the frame is gone.
    push    [esp + 8]
    and     dword ptr [esp], ~EFLAGS_IF
    popfd
    sti
    ret     8

# Never returns, so registers need no saving. Reports vector, EIP, error code (0 where there is none) and halts.
exception:
    shr     eax, STUB_SHIFT
    mov     edx, AGENT_FAULT_PORT
    out     dx, eax
    lea     esi, [esp + 8]
    xor     edi, edi
    mov     ecx, eax
    mov     ebx, PUSHES_ERROR
    shr     ebx, cl
    test    bl, 1
    jz      1f
    mov     edi, [esi]
    add     esi, 4
1:  mov     eax, [esi]
    out     dx, eax
    mov     eax, edi
    out     dx, eax
2:  hlt
    jmp     2b

# ---- data ------------------------------------------------------------------------------------------------------------
.globl data
data:
gdt:
    .quad   0
    .quad   0x00cf9b000000ffff          # CODE_SELECTOR: base 0, 4 GiB, execute, accessed
    .quad   0x00cf93000000ffff          # DATA_SELECTOR: base 0, 4 GiB, write, accessed
gdt_pointer:
    .word   gdt_pointer - gdt - 1
    .long   gdt
idt_pointer:
    .word   (256 << STUB_SHIFT) - 1
    .long   AGENT_IDT

# Indexed by opcode.
commands:
    .long   read8, read16, read32, read64
    .long   write8, write16, write32, write64
    .long   in8, in16, in32
    .long   out8, out16, out32
    .long   stream32, stream64
    .long   burst_read8, burst_read16, burst_read32
    .long   burst_write8, burst_write16, burst_write32
    .long   wait_interrupt, poll, spin
