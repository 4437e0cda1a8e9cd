// Memory of ours on devices, and on the host where a device reaches it: taken from the engine, and given back to it
// only when no scheduler of this process is left on the devices of that kind.
//
// To give memory back is not for us to do while the program uses a device. A device that is reached over a network
// forgets its recorded graphs when any buffer on it is freed, and the program that asks for one of them next is ended;
// others wait until everything that runs on them is done. So what one context has no use for any more is kept for the
// next one. Sizes are rounded, so that there are few of them: a program that makes and frees contexts for ever, of
// whatever sizes, does not make us take more for ever.

#pragma once

#include "engine/upstream/real.h"

// What is taken where so many bytes are needed: a quarter more at most, 4 KiB at least.
size_t device_memory_round(size_t size);

// Returns a buffer of the engine's, of this type and this size, rounded: one that was given back, or a new one.
// `device`: which the type is of, NULL: not known. Returns NULL where there is no memory. Thread-safe, as are all.
void * device_memory_take(const struct real * real, void * type, void * device, size_t size);

// Nothing reads the buffer or writes to it from now on. NULL: does nothing.
void device_memory_give_back(void * buffer);

// The program made a scheduler, traced or not; and it frees one, whose own memory was given back before.
void device_memory_on_sched_new (const struct real * real, void * sched);
void device_memory_on_sched_free(const void * sched);

// Nobody of ours uses the buffer any more, but a graph of the scheduler, which may be evaluated without us: it is given
// back when the scheduler is met again.
void device_memory_leave_to(void * buffer, const void * sched);

// A scheduler that was there before us builds a new graph; or, NULL, schedulers are not followed any more. Nobody can
// tell from then on when the last one is gone: memory is kept for whom it may serve.
void device_memory_keep(const void * sched);

// In the child of a fork: forgets everything without touching it.
void device_memory_forget_all(void);
