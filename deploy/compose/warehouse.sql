-- Target tables and keyfall's role, run once by the postgres image when its volume is empty.
\set ON_ERROR_STOP on
\set keyfall_password `cat /run/secrets/keyfall_password`

CREATE TABLE departments (
    id integer PRIMARY KEY,
    department text NOT NULL
);

CREATE TABLE jobs (
    id integer PRIMARY KEY,
    job text NOT NULL
);

-- No foreign keys: feeds load side by side, so an employee may arrive before the department.
CREATE TABLE hired_employees (
    id integer PRIMARY KEY,
    name text,
    datetime timestamptz,
    department_id integer,
    job_id integer
);

-- All that keyfall needs: to make its own schema, and INSERT on what it loads (docs/OPERATING.md).
CREATE ROLE keyfall LOGIN PASSWORD :'keyfall_password';
GRANT CREATE ON DATABASE warehouse TO keyfall;
GRANT USAGE ON SCHEMA public TO keyfall;
GRANT INSERT ON departments, jobs, hired_employees TO keyfall;
