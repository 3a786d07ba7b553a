/*
 * Dubs, translates, loads and unloads for so many seconds, and tells how much memory the process had.
 *
 * soak MEDIA SCRATCH_DIR SECONDS
 *
 * Prints "RSS SECONDS BYTES" now and then, and in the end "rounds N" and "handles N".
 */

#define _POSIX_C_SOURCE 200809L

#include <time.h>
#include <unistd.h>

#include "world.h"

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static unsigned long long rss(void)
{
    unsigned long long pages = 0, resident = 0;
    FILE *in = fopen("/proc/self/statm", "r");
    if (in == NULL || fscanf(in, "%llu %llu", &pages, &resident) != 2)
        exit(3);
    fclose(in);
    return resident * (unsigned long long)sysconf(_SC_PAGESIZE);
}

/* A dub with the embedded models. */
static void real(struct world *w, dub_pipeline pipeline)
{
    static const char *const keep[] = {"from", "en", "keep", "true", NULL};
    dub_job none = DUB_NONE(dub_job);
    dub_request request;
    dub_run run;
    dub_line line;
    dub_result result;
    const char *text;

    must(dub_request_audio(w->audio, "es", keep, &request, w->error), w->error, "request");
    must(dub_run_start(pipeline, request, none, &run, w->error), w->error, "run");
    while (dub_run_next(run, &line, w->error) == DUB_STATUS_OK) {
        dub_audio audio;
        must(dub_line_audio(line, &audio, w->error), w->error, "audio");
        dub_audio_free(audio);
        dub_line_free(line);
    }
    must(dub_run_finish(run, &result, w->error), w->error, "finish");
    must(dub_result_srt(result, "es", &text, w->error), w->error, "srt");
    must(dub_result_report(result, &text, w->error), w->error, "report");
    dub_result_free(result);
    dub_run_free(run);
    dub_request_free(request);
}

int main(int argc, char **argv)
{
    struct world w;
    dub_job none = DUB_NONE(dub_job);
    dub_factory factory;
    dub_pipeline pipeline;
    dub_tts missing;
    dub_error *error;
    double start, seconds, told = 0;
    unsigned long rounds = 0;

    if (argc != 4)
        return 2;
    seconds = atof(argv[3]);
    error = dub_error_new();
    must(dub_factory_new(NULL, &factory, error), error, "factory");
    must(dub_pipeline_load(factory, "en", "es", NULL, none, &pipeline, error), error, "pipeline");
    start = now();
    while (now() - start < seconds) {
        int i;
        for (i = 0; i < 4; i++) {
            world_make(&w, argv[1], argv[2]);
            if (i == 0)
                real(&w, pipeline);
            /* A call that fails, with a text that is made for it. */
            dub_tts_load(w.factory, "no/such-model", NULL, none, &missing, w.error);
            world_free_but(&w, 2);
        }
        /* What is left then is what the process keeps. */
        must(dub_factory_unload(factory, NULL, none, error), error, "unload");
        rounds++;
        if (now() - start >= told) {
            printf("RSS %.1f %llu\n", now() - start, rss());
            fflush(stdout);
            told += seconds / 40;
        }
    }
    dub_pipeline_free(pipeline);
    dub_factory_free(factory);
    dub_error_free(error);
    printf("RSS %.1f %llu\nrounds %lu\nhandles %lu\n", now() - start, rss(), rounds, (unsigned long)dub_handles());
    return dub_handles() == 0 && failures == 0 ? 0 : 1;
}
