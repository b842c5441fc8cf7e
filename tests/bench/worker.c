/* The smallest worker: it says on the FIFO that is its argument that it was born, and when, and waits to be ended. */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct timespec now;
    char line[64];
    clock_gettime(CLOCK_MONOTONIC, &now);
    int length = snprintf(line, sizeof line, "%d %lld\n", (int)getpid(), now.tv_sec * 1000000000LL + now.tv_nsec);
    int fifo = argc == 2 ? open(argv[1], O_WRONLY) : -1;
    if (fifo < 0 || write(fifo, line, length) != length)
        return 1;
    close(fifo);
    for (;;)
        pause();
}
