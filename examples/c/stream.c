/*
 * A dub that is watched and stopped by others: one thread pulls its lines, one tells how far it is, and the main thread
 * cancels it when enough was heard.
 *
 *     stream INPUT LANGUAGE [LINES]
 *
 * Without LINES the dub goes on to its end.
 */

#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "dubcore.h"

struct dub {
    dub_run run;
    dub_job job;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by the lock. */
    size_t lines;
    dub_status end;
    int ended;
};

/* Pulls lines: nothing is computed but what is asked for. */
static void *pull(void *argument)
{
    struct dub *dub = argument;
    dub_error *error = dub_error_new();
    dub_status status;
    dub_line line;

    while ((status = dub_run_next(dub->run, &line, error)) == DUB_STATUS_OK) {
        double start, end;
        const char *text;
        dub_audio audio;
        if (dub_line_target(line, &start, &end, &text, error) != DUB_STATUS_OK) {
            printf("a line failed: %s\n", dub_error_message(error));
        } else if (dub_line_audio(line, &audio, error) == DUB_STATUS_OK) {
            const float *frames;
            size_t count = 0;
            uint32_t rate = 0;
            /* The frames live as long as `audio`: here a player would take them. */
            dub_audio_samples(audio, &frames, &count, &rate, error);
            printf("%6.2f s  %s (%lu frames at %u Hz)\n", start, text, (unsigned long)count, (unsigned)rate);
            dub_audio_free(audio);
        }
        dub_line_free(line);
        pthread_mutex_lock(&dub->lock);
        dub->lines++;
        pthread_cond_broadcast(&dub->changed);
        pthread_mutex_unlock(&dub->lock);
    }
    if (status != DUB_STATUS_END)
        printf("the dub ended: %s\n", dub_error_message(error));
    pthread_mutex_lock(&dub->lock);
    dub->end = status;
    dub->ended = 1;
    pthread_cond_broadcast(&dub->changed);
    pthread_mutex_unlock(&dub->lock);
    dub_error_free(error);
    return NULL;
}

/* Tells how far the dub is, until it has ended. */
static void *watch(void *argument)
{
    struct dub *dub = argument;
    double told = -1, fraction;
    int ended = 0;

    while (!ended) {
        struct timespec soon = {0, 50 * 1000 * 1000};
        if (dub_job_progress(dub->job, &fraction, NULL) == DUB_STATUS_OK && fraction - told >= 0.05) {
            printf("%3.0f %%\n", fraction * 100);
            told = fraction;
        }
        nanosleep(&soon, NULL);
        pthread_mutex_lock(&dub->lock);
        ended = dub->ended;
        pthread_mutex_unlock(&dub->lock);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct dub dub = {DUB_NONE(dub_run), DUB_NONE(dub_job), PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0,
                      DUB_STATUS_OK, 0};
    static const char *const keep[] = {"keep", "true", NULL};
    dub_factory factory = DUB_NONE(dub_factory);
    dub_pipeline pipeline = DUB_NONE(dub_pipeline);
    dub_request request = DUB_NONE(dub_request);
    dub_result result = DUB_NONE(dub_result);
    dub_error *error = dub_error_new();
    pthread_t puller, watcher;
    size_t wanted = 0;
    int failed = 1;

    if (argc != 3 && argc != 4) {
        fprintf(stderr, "usage: stream INPUT LANGUAGE [LINES]\n");
        dub_error_free(error);
        return 2;
    }
    if (argc == 4)
        wanted = (size_t)strtoul(argv[3], NULL, 10);
    setvbuf(stdout, NULL, _IOLBF, 0);

    /* Ten minutes at most, whatever happens. */
    if (dub_job_new(600, NULL, NULL, NULL, &dub.job, error) == DUB_STATUS_OK &&
        dub_factory_default(&factory, error) == DUB_STATUS_OK &&
        dub_pipeline_load(factory, NULL, argv[2], NULL, dub.job, &pipeline, error) == DUB_STATUS_OK &&
        dub_request_file(argv[1], argv[2], keep, &request, error) == DUB_STATUS_OK &&
        dub_run_start(pipeline, request, dub.job, &dub.run, error) == DUB_STATUS_OK) {
        bool complete, cut_short;
        pthread_create(&puller, NULL, pull, &dub);
        pthread_create(&watcher, NULL, watch, &dub);
        pthread_mutex_lock(&dub.lock);
        while (!dub.ended && (wanted == 0 || dub.lines < wanted))
            pthread_cond_wait(&dub.changed, &dub.lock);
        pthread_mutex_unlock(&dub.lock);
        if (wanted > 0)
            dub_job_cancel(dub.job, NULL);
        pthread_join(puller, NULL);
        pthread_join(watcher, NULL);
        /* What was finished is there, whether the dub was cut short or not. */
        if (dub_run_finish(dub.run, &result, error) == DUB_STATUS_OK &&
            dub_result_complete(result, &complete, &cut_short, error) == DUB_STATUS_OK) {
            printf("%lu lines, %s\n", (unsigned long)dub.lines, cut_short ? "cut short" : complete ? "complete" : "not complete");
            failed = 0;
        }
    }
    if (failed)
        fprintf(stderr, "stream: %s (%s)\n", dub_error_message(error), dub_error_kind(error));
    dub_result_free(result);
    dub_run_free(dub.run);
    dub_request_free(request);
    dub_pipeline_free(pipeline);
    dub_factory_free(factory);
    dub_job_free(dub.job);
    dub_error_free(error);
    return failed;
}
