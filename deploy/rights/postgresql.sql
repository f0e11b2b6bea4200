-- Roles of PostgreSQL, each with what its part needs. Run as superuser in the database of Hourglass, before the first
-- migration and once more after it; it may be repeated. Set passwords afterwards: \password hourglass_api and so on.
--
--   hourglass_migrate   `hourglass migrate`, `restore`     owns the schema
--   hourglass_api       API processes                      reads and writes rows, changes no table
--   hourglass_worker    worker                             the same, and makes and drops partitions of usage
--   hourglass_read      `hourglass backup`, reports        reads

DO $$
DECLARE role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['hourglass_migrate', 'hourglass_api', 'hourglass_worker', 'hourglass_read'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE', role);
        END IF;
    END LOOP;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO hourglass_migrate, hourglass_api, hourglass_worker, hourglass_read', current_database());
END $$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO hourglass_api, hourglass_worker, hourglass_read;
GRANT USAGE, CREATE ON SCHEMA public TO hourglass_migrate;

-- Partitions are made and dropped by the worker, which for that must own the two tables that have them. Migrations change
-- these tables, too, and therefore may do what the worker may.
GRANT hourglass_worker TO hourglass_migrate;
GRANT CREATE ON SCHEMA public TO hourglass_worker;

DO $$
DECLARE found record;
BEGIN
    FOR found IN
        SELECT c.oid::regclass AS name, COALESCE(parent.relname, c.relname) AS family
          FROM pg_class c
          LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
          LEFT JOIN pg_class parent ON parent.oid = i.inhparent
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
    LOOP
        IF found.family IN ('viewing_sessions', 'viewing_time_balances') THEN
            EXECUTE format('ALTER TABLE %s OWNER TO hourglass_worker', found.name);
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO hourglass_api', found.name);
        ELSE
            EXECUTE format('ALTER TABLE %s OWNER TO hourglass_migrate', found.name);
            IF found.family IN ('alembic_version', 'schema_compatibility') THEN
                EXECUTE format('GRANT SELECT ON %s TO hourglass_api, hourglass_worker', found.name);
                EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON %s FROM hourglass_api, hourglass_worker', found.name);
            ELSE
                EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO hourglass_api, hourglass_worker', found.name);
            END IF;
        END IF;
        EXECUTE format('GRANT SELECT ON %s TO hourglass_read', found.name);
    END LOOP;
    IF to_regclass('public.profiles') IS NOT NULL THEN
        GRANT REFERENCES ON profiles TO hourglass_worker;  -- partitions refer to it
    END IF;
END $$;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO hourglass_api, hourglass_worker;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO hourglass_read;

-- What later migrations and the worker make is for all parts, too.
ALTER DEFAULT PRIVILEGES FOR ROLE hourglass_migrate IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO hourglass_api, hourglass_worker;
ALTER DEFAULT PRIVILEGES FOR ROLE hourglass_migrate IN SCHEMA public GRANT SELECT ON TABLES TO hourglass_read;
ALTER DEFAULT PRIVILEGES FOR ROLE hourglass_migrate IN SCHEMA public
    GRANT USAGE, SELECT ON SEQUENCES TO hourglass_api, hourglass_worker;
ALTER DEFAULT PRIVILEGES FOR ROLE hourglass_worker IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO hourglass_api;
ALTER DEFAULT PRIVILEGES FOR ROLE hourglass_worker IN SCHEMA public GRANT SELECT ON TABLES TO hourglass_read;
