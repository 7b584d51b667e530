-- A jobq database of schema version 1, as sqlite3's .dump tells it.
PRAGMA journal_mode = WAL;
PRAGMA application_id = 1785684593;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'jobq','m001_jobs','2026-01-01 12:00:00.000000+00:00');
CREATE TABLE attempts (
            job_id INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            supervisor TEXT NOT NULL,
            pid INTEGER,
            pid_started INTEGER,
            started_at REAL NOT NULL,
            lease_until REAL NOT NULL,
            ended_at REAL,
            outcome TEXT,
            exit_code INTEGER,
            signal INTEGER,
            error TEXT,
            max_rss_bytes INTEGER,
            cpu_seconds REAL,
            stdout_offset INTEGER NOT NULL DEFAULT 0,
            stderr_offset INTEGER NOT NULL DEFAULT 0,
            events_offset INTEGER NOT NULL DEFAULT 0,
            log_offset INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (job_id, attempt)
        ) STRICT, WITHOUT ROWID;
INSERT INTO "attempts" VALUES(1,1,'host:1:aa',100,5000,1767268801.0,1767268831.0,1767268805.0,'failed',1,NULL,'exit code 1',1024,0.5,0,0,0,0);
INSERT INTO "attempts" VALUES(1,2,'host:1:aa',101,5001,1767268820.0,1767268850.0,1767268821.5,'completed',0,NULL,NULL,2048,0.25,6,0,120,0);
INSERT INTO "attempts" VALUES(2,1,'host:1:aa',102,5002,1767268801.0,1767268831.0,1767268802.0,'failed',3,NULL,'exit code 3',1024,0.1,0,0,0,0);
INSERT INTO "attempts" VALUES(6,1,'host:1:aa',103,5003,1767268830.0,1767268860.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0,0,0);
CREATE TABLE dependencies (
            child_id INTEGER NOT NULL,
            parent_id INTEGER NOT NULL,
            condition TEXT NOT NULL CHECK (condition IN ('succeeded', 'ended', 'failed')),
            met INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (child_id, parent_id)
        ) STRICT, WITHOUT ROWID;
INSERT INTO "dependencies" VALUES(3,2,'succeeded',0);
INSERT INTO "dependencies" VALUES(5,1,'succeeded',1);
INSERT INTO "dependencies" VALUES(5,4,'ended',0);
CREATE TABLE job_queue (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            type TEXT NOT NULL,
            name TEXT,
            status TEXT NOT NULL CHECK (status IN ('blocked', 'scheduled', 'pending', 'running',
                'retrying', 'completed', 'failed', 'cancelled')),
            queue TEXT NOT NULL,
            priority INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 9),
            args TEXT NOT NULL,
            tags TEXT,
            unique_key TEXT,
            parents INTEGER NOT NULL DEFAULT 0,
            unmet_parents INTEGER NOT NULL DEFAULT 0,
            added_by INTEGER,
            attempts INTEGER NOT NULL DEFAULT 0,
            failures INTEGER NOT NULL DEFAULT 0,
            crashes INTEGER NOT NULL DEFAULT 0,
            max_retries INTEGER NOT NULL,
            retry_base REAL NOT NULL,
            timeout REAL,
            created_at REAL NOT NULL,
            run_at REAL,
            started_at REAL,
            finished_at REAL,
            cancel_requested INTEGER NOT NULL DEFAULT 0,
            cancelled_by INTEGER,
            progress_done REAL,
            progress_total REAL,
            progress_message TEXT,
            exit_code INTEGER,
            signal INTEGER,
            error TEXT,
            reason TEXT,
            result TEXT
        ) STRICT;
INSERT INTO "job_queue" VALUES(1,'shell','greet','completed','default',5,'{"argv":["echo","żółw"]}','{"project":"a"}',NULL,0,0,NULL,2,1,0,3,10.0,NULL,1767268800.0,NULL,1767268820.0,1767268821.5,0,NULL,1.0,2.0,'half',0,NULL,NULL,NULL,'{"n":1}');
INSERT INTO "job_queue" VALUES(2,'shell',NULL,'failed','default',5,'{}',NULL,NULL,0,0,NULL,1,1,0,0,10.0,NULL,1767268800.0,NULL,1767268801.0,1767268802.0,0,NULL,NULL,NULL,NULL,3,NULL,'exit code 3',NULL,NULL);
INSERT INTO "job_queue" VALUES(3,'shell',NULL,'cancelled','default',5,'{}',NULL,NULL,1,1,NULL,0,0,0,3,10.0,NULL,1767268800.0,NULL,NULL,1767268802.0,0,2,NULL,NULL,NULL,NULL,NULL,NULL,'parent 2 failed',NULL);
INSERT INTO "job_queue" VALUES(4,'channel_download',NULL,'pending','ffmpeg',9,'{}',NULL,'chan',0,0,NULL,0,0,0,3,10.0,600.0,1767268800.0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "job_queue" VALUES(5,'shell',NULL,'blocked','default',5,'{}',NULL,NULL,2,1,NULL,0,0,0,3,10.0,NULL,1767268800.0,1767272400.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "job_queue" VALUES(6,'shell',NULL,'running','default',5,'{}',NULL,NULL,0,0,1,1,0,0,3,10.0,NULL,1767268800.0,NULL,1767268830.0,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "job_queue" VALUES(7,'shell',NULL,'scheduled','default',5,'{}',NULL,NULL,0,0,NULL,0,0,0,3,10.0,NULL,1767268800.0,1767272400.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE queues (
            name TEXT PRIMARY KEY,
            description TEXT,
            max_concurrent INTEGER CHECK (max_concurrent > 0),
            priority INTEGER NOT NULL DEFAULT 5 CHECK (priority BETWEEN 0 AND 9),
            paused INTEGER NOT NULL DEFAULT 0,
            timeout REAL,
            max_retries INTEGER
        ) STRICT, WITHOUT ROWID;
INSERT INTO "queues" VALUES('default',NULL,NULL,5,0,NULL,NULL);
INSERT INTO "queues" VALUES('ffmpeg','two at once',2,8,1,90.5,1);
CREATE TABLE supervisors (
            id TEXT PRIMARY KEY,
            host TEXT NOT NULL,
            boot_id TEXT NOT NULL,
            pid INTEGER NOT NULL,
            slots INTEGER NOT NULL,
            queues TEXT,
            types TEXT NOT NULL,
            started_at REAL NOT NULL,
            heartbeat_at REAL NOT NULL
        ) STRICT, WITHOUT ROWID;
INSERT INTO "supervisors" VALUES('host:1:aa','host','boot',1,2,NULL,'["shell"]',1767268800.0,1767268850.0);
CREATE TABLE unsettled_parents (
            parent_id INTEGER PRIMARY KEY,
            after_child INTEGER NOT NULL DEFAULT 0
        ) STRICT;
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX job_queue_claim ON job_queue (queue, priority DESC, id, type)
            WHERE status = 'pending';
CREATE INDEX job_queue_due ON job_queue (run_at)
            WHERE status IN ('scheduled', 'retrying');
CREATE INDEX job_queue_running ON job_queue (queue) WHERE status = 'running';
CREATE INDEX job_queue_blocked ON job_queue (id) WHERE status = 'blocked';
CREATE INDEX job_queue_failed ON job_queue (id) WHERE status = 'failed';
CREATE INDEX job_queue_cancelled ON job_queue (id) WHERE status = 'cancelled';
CREATE INDEX job_queue_finished ON job_queue (finished_at)
            WHERE status IN ('completed', 'failed', 'cancelled');
CREATE INDEX job_queue_cancelled_by ON job_queue (cancelled_by)
            WHERE cancelled_by IS NOT NULL;
CREATE UNIQUE INDEX job_queue_unique_key ON job_queue (unique_key)
            WHERE unique_key IS NOT NULL
            AND status IN ('blocked', 'scheduled', 'pending', 'running', 'retrying');
CREATE INDEX attempts_open ON attempts (supervisor) WHERE ended_at IS NULL;
CREATE INDEX dependencies_parent ON dependencies (parent_id, child_id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('job_queue',8);
COMMIT;
