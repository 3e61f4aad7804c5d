-- The database's owner, who may connect, and the limits of each role in it. A role can change its own settings, so each
-- run starts from none.
ALTER DATABASE app OWNER TO seawall_owner;
REVOKE ALL ON DATABASE app FROM PUBLIC, seawall_migrator, seawall_app, seawall_readonly, seawall_backup, seawall_monitor;
GRANT CONNECT ON DATABASE app TO seawall_migrator, seawall_app, seawall_readonly, seawall_backup, seawall_monitor;

ALTER DATABASE app RESET ALL;
ALTER DATABASE app SET search_path = app;

ALTER ROLE seawall_migrator IN DATABASE app RESET ALL;
ALTER ROLE seawall_migrator IN DATABASE app SET role = 'seawall_owner';
ALTER ROLE seawall_migrator IN DATABASE app SET statement_timeout = '15min';
ALTER ROLE seawall_migrator IN DATABASE app SET lock_timeout = '3s';
ALTER ROLE seawall_migrator IN DATABASE app SET idle_in_transaction_session_timeout = '60s';

ALTER ROLE seawall_app IN DATABASE app RESET ALL;
ALTER ROLE seawall_app IN DATABASE app SET statement_timeout = '15s';
ALTER ROLE seawall_app IN DATABASE app SET lock_timeout = '5s';
ALTER ROLE seawall_app IN DATABASE app SET idle_in_transaction_session_timeout = '30s';
ALTER ROLE seawall_app IN DATABASE app SET transaction_timeout = '60s';

ALTER ROLE seawall_readonly IN DATABASE app RESET ALL;
ALTER ROLE seawall_readonly IN DATABASE app SET default_transaction_read_only = on;
ALTER ROLE seawall_readonly IN DATABASE app SET statement_timeout = '60s';
ALTER ROLE seawall_readonly IN DATABASE app SET lock_timeout = '2s';
ALTER ROLE seawall_readonly IN DATABASE app SET idle_in_transaction_session_timeout = '30s';
ALTER ROLE seawall_readonly IN DATABASE app SET transaction_timeout = '120s';

-- A backup takes as long as it takes; the job that runs it has its own end.
ALTER ROLE seawall_backup IN DATABASE app RESET ALL;

ALTER ROLE seawall_monitor IN DATABASE app RESET ALL;
ALTER ROLE seawall_monitor IN DATABASE app SET statement_timeout = '5s';
ALTER ROLE seawall_monitor IN DATABASE app SET lock_timeout = '1s';
ALTER ROLE seawall_monitor IN DATABASE app SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE seawall_monitor IN DATABASE app SET transaction_timeout = '10s';
