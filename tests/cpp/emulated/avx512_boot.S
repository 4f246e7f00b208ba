// The 64 KiB boot ROM of the emulated machine: from the reset vector to the kernel's 32-bit PVH
// entry point (Linux, Documentation/arch/x86/boot: "PVH boot"; Xen, docs/misc/pvh.pandoc).
// There is no BIOS: run_avx512 has already put kernel, initial RAM disk and start info into memory.
// Preprocessor macros: KERNEL_ENTRY, START_INFO, IMAGE_BEGIN, IMAGE_END (physical addresses).

    .set ROM_BASE, 0xf0000
    .set BOOTED_FLAG, 0x500           // low memory that Linux reserves and never writes
    .set BOOTED_MAGIC, 0x74616d69
    .set BLOCK, 0x20000               // bochs hands out guest memory in blocks of 128 KiB

    .code16
    .globl _start
_start:
    cli
    movb $2, %al                      // open the A20 gate
    outb %al, $0x92
    lgdtl %cs:gdt_pointer
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $0x08, $(ROM_BASE + protected_mode)

    .code32
protected_mode:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss

// bochs 2.7 loads a RAM image into consecutive blocks of host memory, but gives a block its guest
// address only when the guest first touches it. Touching the image in order makes both agree.
    movl $IMAGE_BEGIN, %esi
1:  movl (%esi), %eax
    addl $BLOCK, %esi
    cmpl $IMAGE_END, %esi
    jb 1b

// A second pass through the reset vector means that the kernel panicked and rebooted: stop.
    cmpl $BOOTED_MAGIC, BOOTED_FLAG
    je power_off
    movl $BOOTED_MAGIC, BOOTED_FLAG

    movl $START_INFO, %ebx
    xorl %ebp, %ebp
    movl $KERNEL_ENTRY, %eax
    jmp *%eax

power_off:                            // bochs ends when it reads this word on port 0x8900
    movw $0x8900, %dx
    movl $(ROM_BASE + shutdown_word), %esi
    movl $8, %ecx
    rep outsb
2:  hlt
    jmp 2b

shutdown_word:
    .ascii "Shutdown"

    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff          // flat 4 GiB code
    .quad 0x00cf93000000ffff          // flat 4 GiB data
gdt_pointer:
    .word . - gdt - 1
    .long ROM_BASE + gdt

    .org 0xfff0                       // reset vector
    .code16
    ljmpw $0xf000, $0
    .org 0x10000
